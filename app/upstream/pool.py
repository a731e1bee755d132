"""The workers that there are."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from app.settings import DEFAULT_CONTEXT_TOKENS, WorkerSettings
from app.settings.pool import PoolSettings
from app.upstream.endpoint import Endpoint
from app.upstream.refusals import no_worker

RETRY_AFTER_SECONDS = 5.0  # one round of probes


class Pool:
    """Every worker serves the same model. They may come and go while requests run."""

    def __init__(
        self, workers: Sequence[WorkerSettings], settings: PoolSettings | None = None
    ) -> None:
        self._settings = settings or PoolSettings()
        self.endpoints = [Endpoint(worker, self._settings) for worker in workers]
        self._leaving: set[Endpoint] = set()
        self._turn = 0
        self.lost = asyncio.Event()  # one was found missing: it is worth looking now
        self.on_change: Callable[[], None] = _nothing
        self.on_removed: Callable[[Endpoint], None] = _nothing_of

    def changed(self) -> None:
        """To be called when a worker became ready or ceased to be, was ejected or let in again, or
        has said how much it has: those that wait for one look again."""
        self.on_change()

    def lose(self, endpoint: Endpoint) -> None:
        """It could not be reached: not asked again before the prober has seen it."""
        endpoint.ready = False
        self.lost.set()
        self.changed()

    @property
    def ready(self) -> bool:
        return any(self._serving())

    @property
    def context_tokens(self) -> int:
        """The longest context that is ready now, or that was ever seen."""
        ready = [endpoint.context_tokens for endpoint in self._serving()]
        known = ready or [endpoint.context_tokens for endpoint in self.endpoints]
        return max(known, default=DEFAULT_CONTEXT_TOKENS)

    def pick(self) -> Endpoint:
        """A ready worker with the fewest requests, in turn among equals, for a question that is no
        completion. Raises Unavailable."""
        ready = list(self._serving())
        if not ready:
            raise no_worker(RETRY_AFTER_SECONDS)
        self._turn += 1
        start = self._turn % len(ready)
        return min(ready[start:] + ready[:start], key=lambda endpoint: endpoint.in_flight)

    def _serving(self) -> Iterator[Endpoint]:
        """Those that are ready, and are meant to get what is new."""
        return (each for each in self.endpoints if each.ready and not each.draining)

    # -- workers that come and go

    def add(self, worker: WorkerSettings) -> Endpoint:
        """It gets requests once the prober has found it ready."""
        endpoint = Endpoint(worker, self._settings)
        self.endpoints.append(endpoint)
        self.lost.set()  # so that it is probed soon
        return endpoint

    def drain(self, endpoint: Endpoint) -> None:
        """It gets nothing new; what it has runs on to its end."""
        endpoint.draining = True
        self.changed()

    def resume(self, endpoint: Endpoint) -> None:
        """One that is being removed stays."""
        self._leaving.discard(endpoint)
        endpoint.draining = False
        self.changed()

    def remove(self, endpoint: Endpoint) -> None:
        """Drained, and gone with its last request."""
        self._leaving.add(endpoint)
        self.drain(endpoint)
        self.released(endpoint)

    def released(self, endpoint: Endpoint) -> None:
        """A request there has ended."""
        if endpoint in self._leaving and not endpoint.in_flight:
            self._leaving.discard(endpoint)
            self.endpoints.remove(endpoint)
            endpoint.renew()  # what its last answers taught, they teach of nobody
            self.on_removed(endpoint)


def _nothing() -> None:
    """Nobody waits for a worker."""


def _nothing_of(endpoint: Endpoint) -> None:
    """Nothing is kept of it."""
