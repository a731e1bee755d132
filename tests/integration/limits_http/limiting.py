"""Keys with limits, what answers say of them, and what Redis holds for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.limits.limiter import Limiter
from app.store.api_key import KeyDraft
from app.store.keys import IssuedKey
from app.store.policy import Limits, Policy
from app.store.tables import audit_records
from tests.support.conditions import eventually
from tests.support.gateway import RunningGateway

WITHIN_SECONDS = 60.0  # only spent on failure
PREFIX = "gateway:"
REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")

_GO_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


async def issue(
    gateway: RunningGateway, *, tenant: str = "acme", plan: str | None = None, **policy: Any
) -> IssuedKey:
    draft = KeyDraft(name="limited", tenant=tenant, plan=plan, policy=Policy(**policy))
    return await gateway.keys.create(draft)


async def limit_tenant(gateway: RunningGateway, tenant: str, **limits: int) -> None:
    await gateway.keys.update_tenant(tenant, {"limits": Limits(**limits)})


def limiter_of(gateway: RunningGateway) -> Limiter:
    limiter: Limiter = gateway.app.state.gateway.limiter
    return limiter


def seconds_of(duration: str) -> float:
    """As Go's `time.ParseDuration` reads it."""
    found = _GO_DURATION.fullmatch(duration)
    assert found is not None, f"no duration: {duration!r}"
    assert any(found.groups()), f"an empty duration: {duration!r}"
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


@dataclass(frozen=True)
class Told:
    """One bucket, as headers tell it; the reset in seconds."""

    limit: int
    remaining: int
    reset_seconds: float


def told(headers: Mapping[str, str], of: str) -> Told | None:
    """`of`: requests or tokens. None where no header speaks of it; all three have to, or none."""
    names = [f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset")]
    values = [headers.get(name) for name in names]
    if values == [None] * 3:
        return None
    limit, remaining, reset = values
    assert limit is not None, names
    assert remaining is not None, names
    assert reset is not None, names
    return Told(int(limit), int(remaining), seconds_of(reset))


def remaining(headers: Mapping[str, str], of: str) -> int:
    bucket = told(headers, of)
    assert bucket is not None, f"no x-ratelimit headers of {of}"
    return bucket.remaining


@dataclass(frozen=True)
class Held:
    """What running requests have of all subjects together. A request stands once for its key and
    once for its tenant, if both are limited."""

    leases: int = 0
    reservations: int = 0
    tokens: int = 0


NOTHING_HELD = Held()


def held(client: Redis) -> Held:
    """`client` decodes its replies."""
    leases = reservations = tokens = 0
    for name in client.scan_iter(f"{PREFIX}*"):
        if name.endswith(":leases"):
            leases += client.zcard(name)
        elif name != f"{PREFIX}replicas":
            state: dict[str, str] = client.hgetall(name)
            tokens += int(state.get("h", 0))
            reservations += sum(REQUEST_ID.fullmatch(field) is not None for field in state)
    return Held(leases, reservations, tokens)


@dataclass(frozen=True)
class Budget:
    """Of one subject, in tokens of today."""

    spent: int
    held: int
    unsure: int

    @property
    def taken(self) -> int:
        return self.spent + self.held + self.unsure


def budget_of(client: Redis, tenant: str, key_id: str | None = None) -> Budget | None:
    """Of a key, or without one of the tenant; None before it was counted."""
    state = f"{PREFIX}{{{tenant}}}:" + ("tenant" if key_id is None else f"key:{key_id}")
    # One command: what it reads belongs together.
    spent, tokens, unsure = client.hmget(state, ["ds", "h", "u"])
    return None if spent is None else Budget(int(spent), int(tokens or 0), int(unsure or 0))


async def nothing_held(client: Redis, *gateways: RunningGateway) -> None:
    """Returns once neither Redis nor these gateways hold anything for a running request."""
    await eventually(
        lambda: held(client) == NOTHING_HELD and not any(limiter_of(g).running for g in gateways),
        WITHIN_SECONDS,
        f"nothing is held: {held(client)}",
    )


async def audited_tokens(engine: AsyncEngine, key_id: str) -> int:
    """What the audit log charges to a key, in all."""
    async with engine.connect() as connection:
        charged = await connection.scalars(
            select(audit_records.c.charged_tokens).where(audit_records.c.key_id == key_id)
        )
        return sum(tokens or 0 for tokens in charged)
