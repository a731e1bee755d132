"""What running requests of this process hold, and the renewal of it.

A lease that is not renewed ends by itself, so that a replica that is killed frees its slots.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from app.limits.enforcer import Enforcer, LimitsUnavailable
from app.limits.subjects import NO_STANDING, Demand, Standing, Subject

# Longer than any answer: 1,010,000 tokens take 42 minutes to read, at the slowest prefill borne. A
# request that is never settled, by a defect, blocks its key no longer than this.
MAX_HELD_SECONDS = 4 * 3600.0

RENEWALS_AT_ONCE = 100  # calls
MAX_RENEWED_AT_ONCE = 500  # in one call; a script holds up all of Redis


@dataclass(slots=True, eq=False)
class Admission:
    """A request that was admitted, until it is settled. `by` is None where nothing limits it."""

    demand: Demand
    by: Enforcer | None
    admitted_at: float = 0.0
    standing: Standing = NO_STANDING
    budget_left: int | None = None  # the least of them


class Leases:
    """`clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._running: dict[str, Admission] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, admission: Admission) -> None:
        self._running[admission.demand.request_id] = admission

    def remove(self, admission: Admission) -> bool:
        """Whether it ran: false the second time."""
        return self._running.pop(admission.demand.request_id, None) is not None

    def runs(self, request_id: str) -> bool:
        return request_id in self._running

    def move(self, to: Enforcer) -> None:
        """From now on all of them are another one's."""
        for admission in self._running.values():
            admission.by = to

    async def renew(
        self,
        at: Enforcer,
        *,
        of: Callable[[Subject], Subject] = lambda subject: subject,
        everyone: bool = False,
        ended: Callable[[Demand], None] = lambda demand: None,
    ) -> None:
        """What the enforcer admitted, or `everyone` did; it knows each subject as `of` makes it.
        `ended` is told of those that ended while they were renewed: their settlement may have come
        first, and then they are held again. Raises LimitsUnavailable."""
        self._forget_old()
        held: dict[Subject, dict[str, Admission]] = defaultdict(dict)
        for request_id, admission in self._running.items():
            if everyone or admission.by is at:
                for subject in admission.demand.subjects:
                    held[subject][request_id] = admission
        calls = [(of(subject), part) for subject, some in held.items() for part in _parts(some)]
        failed: list[LimitsUnavailable] = []
        for first in range(0, len(calls), RENEWALS_AT_ONCE):
            some = calls[first : first + RENEWALS_AT_ONCE]
            done = await asyncio.gather(*(self._renew(at, *call, ended) for call in some))
            failed += filter(None, done)
        if failed:  # after all the others
            raise failed[0]

    async def _renew(
        self,
        at: Enforcer,
        subject: Subject,
        part: dict[str, Admission],
        ended: Callable[[Demand], None],
    ) -> LimitsUnavailable | None:
        # Those that have ended meanwhile must not be held again.
        still = {i: admission.demand for i, admission in part.items() if i in self._running}
        if not still:
            return None
        try:
            await at.renew(subject, {i: demand.tokens for i, demand in still.items()})
        except LimitsUnavailable as error:
            return error
        finally:
            for request_id, demand in still.items():
                if request_id not in self._running:
                    ended(demand)
        return None

    def _forget_old(self) -> None:
        oldest = self._clock() - MAX_HELD_SECONDS
        for request_id in [i for i, a in self._running.items() if a.admitted_at < oldest]:
            del self._running[request_id]


def _parts(held: dict[str, Admission]) -> Iterator[dict[str, Admission]]:
    items = iter(held.items())
    while part := dict(islice(items, MAX_RENEWED_AT_ONCE)):
        yield part
