"""What the record says was charged, and that no request is counted twice."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from app.errors import ClientDisconnected
from app.gateway.meter import Meter
from app.gateway.settle import settle
from app.limits.leases import Admission
from app.limits.limiter import Limiter
from app.limits.subjects import NO_STANDING, Demand, Spending, Standing
from tests.unit.gateway.preparing import CALLER, PRINCIPAL, REQUEST, run

NOW, LATER = 1_790_000_000.0, 1_790_000_001.0


@dataclass
class Limits:
    """Stands where the limiter is, and is cut off where it is told to be."""

    cut_off: bool = False
    counted: list[int] = field(default_factory=list)

    def now(self) -> float:
        return NOW

    async def settle(self, admission: Admission, spending: Spending) -> float:
        if self.cut_off:
            raise TimeoutError
        return LATER

    async def count(self, demand: Demand) -> Standing:
        self.counted.append(demand.requests)
        return NO_STANDING


async def admitted() -> Meter:
    """A worker has taken it, and nothing came of that yet."""
    meter = Meter(CALLER, lambda: 1.0, principal=PRINCIPAL, request=REQUEST)
    meter.prepared = await run()
    meter.admission = Admission(Demand(CALLER.request_id, (), 100), None)
    meter.taken = True
    return meter


async def test_the_charge_is_dated_by_whoever_enforces_the_limits() -> None:
    meter = await admitted()
    await settle(meter, cast(Limiter, Limits()), 0.1)
    assert meter.prepared is not None
    assert (meter.charged_tokens, meter.settled_at) == (meter.prepared.prompt_tokens, LATER)


async def test_a_settlement_that_is_cut_off_is_charged_nevertheless() -> None:
    """It is made good for later, and budgets are told of it by the record alone."""
    meter = await admitted()
    with pytest.raises(TimeoutError):
        await settle(meter, cast(Limiter, Limits(cut_off=True)), 0.1)
    assert meter.prepared is not None
    assert (meter.charged_tokens, meter.settled_at) == (meter.prepared.prompt_tokens, NOW)


@pytest.mark.parametrize(("limits_asked", "requests"), [(False, 1), (True, 0)])
async def test_a_request_without_a_reservation_is_counted_once(
    limits_asked: bool, requests: int
) -> None:
    """Where its client left while it was being admitted, the admission may have counted it."""
    meter = Meter(CALLER, lambda: 1.0, principal=PRINCIPAL, request=REQUEST)
    meter.limits_asked = limits_asked
    meter.end(ClientDisconnected("gone"))
    limits = Limits()
    await settle(meter, cast(Limiter, limits), 0.1)
    assert limits.counted == [requests]
