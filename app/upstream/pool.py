"""The workers, and which of them is asked next."""

import asyncio
from collections.abc import Collection, Sequence

from app.errors import Unavailable
from app.settings import WorkerSettings
from app.upstream.endpoint import Endpoint

RETRY_AFTER_SECONDS = 5.0  # one round of probes


class Pool:
    """Every worker serves the same model; the one with the fewest requests in flight is asked."""

    def __init__(self, workers: Sequence[WorkerSettings]) -> None:
        self.endpoints = [Endpoint(worker) for worker in workers]
        self._turn = 0
        self.lost = asyncio.Event()  # one was found missing: it is worth looking now

    def lose(self, endpoint: Endpoint) -> None:
        """It could not be reached: not asked again before the prober has seen it."""
        endpoint.ready = False
        self.lost.set()

    @property
    def ready(self) -> bool:
        return any(endpoint.ready for endpoint in self.endpoints)

    @property
    def context_tokens(self) -> int:
        """The longest context that is ready now, or that was ever seen."""
        ready = [endpoint.context_tokens for endpoint in self.endpoints if endpoint.ready]
        return max(ready or [endpoint.context_tokens for endpoint in self.endpoints])

    def pick(self, *, tokens: int = 0, but: Collection[Endpoint] = ()) -> Endpoint:
        """The least loaded ready worker whose context holds `tokens`, in turn among equals.

        Raises Unavailable (503 with `retry-after`).
        """
        eligible = [
            endpoint
            for endpoint in self.endpoints
            if endpoint.ready and endpoint not in but and endpoint.context_tokens >= tokens
        ]
        if not eligible:
            raise Unavailable(
                "No model server is available right now. Please try again.",
                code="no_available_workers",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._turn += 1
        start = self._turn % len(eligible)
        return min(eligible[start:] + eligible[:start], key=lambda endpoint: endpoint.in_flight)
