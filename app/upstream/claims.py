"""Those that wait for a worker, and workers that are kept free for one of them."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.fair_queue import Ticket
from app.upstream.load import Demand
from app.upstream.placement import Option
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


WaiterTicket = Ticket[Waiter]


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
