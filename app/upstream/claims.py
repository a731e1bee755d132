"""Those that wait for a worker, and for how long, and workers that are kept free for one of
them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.fair_queue import Ticket
from app.upstream.load import Demand
from app.upstream.placement import Option
from app.upstream.reading import Reader, seconds_until_read
from app.upstream.turn import Turn


@dataclass(slots=True, eq=False)
class Waiter:
    ask: Ask
    but: Collection[Endpoint]
    since: float
    options: list[Option]
    ranked_at: float
    given: asyncio.Future[Turn]
    claimed: Endpoint | None = None

    @property
    def work(self) -> int:
        """Of reading its prompt, where that is least."""
        return self.options[0].demand.work if self.options else 0


WaiterTicket = Ticket[Waiter]


def seconds_left(waiter: Waiter, work_before: float, now: float) -> float | None:
    """Until its first token, behind all that its workers are reading and so much work of those that
    wait before it; None where none of its workers was seen to read."""
    readers: list[Reader] = []
    own_seconds: float | None = None
    for option in waiter.options:
        load = option.endpoint.load
        speed = load.prefill_tokens_per_second
        if speed is None or not option.endpoint.takes_requests(now):
            continue
        readers.append(Reader(load.work_left(now) / speed, speed))
        if own_seconds is None:  # on the best of them
            own_seconds = option.demand.work / speed
    return None if own_seconds is None else seconds_until_read(work_before, readers) + own_seconds


class Claims:
    """A request that needs much room would wait for ever where small ones take each bit that comes
    free. One that has been overtaken too often claims a worker, which then gets only what leaves
    room for it."""

    def __init__(self) -> None:
        self._of: dict[Endpoint, Demand] = {}

    @property
    def of(self) -> Mapping[Endpoint, Demand]:
        """What is claimed of each worker, by one."""
        return self._of

    def beside(self, waiter: Waiter) -> Mapping[Endpoint, Demand]:
        """Those of others."""
        if waiter.claimed is None:
            return self._of
        return {e: demand for e, demand in self._of.items() if e is not waiter.claimed}

    def make(self, waiter: Waiter, workers: int) -> None:
        """On the best worker that is not claimed, and at most on half of them: the others serve who
        can be served."""
        if waiter.claimed is not None and not _offers(waiter.options, waiter.claimed):
            self.drop(waiter)  # that worker is gone
        if waiter.claimed is not None or len(self._of) >= max(1, workers // 2):
            return
        for option in waiter.options:
            if option.endpoint not in self._of:
                self._of[option.endpoint] = option.demand
                waiter.claimed = option.endpoint
                return

    def drop(self, waiter: Waiter) -> None:
        if waiter.claimed is not None:
            del self._of[waiter.claimed]
            waiter.claimed = None


def _offers(found: Sequence[Option], endpoint: Endpoint) -> bool:
    return any(option.endpoint is endpoint for option in found)
