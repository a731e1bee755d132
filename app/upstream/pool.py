"""The workers, and which of them is asked next."""

import asyncio
from collections.abc import Collection, Sequence

from app.errors import InvalidRequest, Unavailable
from app.protocol.request import Json
from app.settings import WorkerSettings
from app.upstream.endpoint import Endpoint
from app.upstream.engines import unsupported

RETRY_AFTER_SECONDS = 5.0  # one round of probes
NOTHING_SPECIAL: Json = {}


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

    def pick(
        self,
        *,
        tokens: int = 0,
        but: Collection[Endpoint] = (),
        fields: Json = NOTHING_SPECIAL,
    ) -> Endpoint:
        """The least loaded ready worker whose context holds `tokens` and that can do what `fields`
        ask for, in turn among equals.

        Raises Unavailable (503 with `retry-after`), or InvalidRequest (`unsupported_parameter`)
        where no worker, ready or not, can do it.
        """
        eligible = self._eligible(tokens, but, fields)
        if not eligible:
            self._refuse_unsupported(fields)
            raise Unavailable(
                "No model server is available right now. Please try again.",
                code="no_available_workers",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._turn += 1
        start = self._turn % len(eligible)
        return min(eligible[start:] + eligible[:start], key=lambda endpoint: endpoint.in_flight)

    def another(self, *, tokens: int, but: Collection[Endpoint], fields: Json) -> bool:
        """Whether `pick` would find one."""
        return bool(self._eligible(tokens, but, fields))

    def _eligible(self, tokens: int, but: Collection[Endpoint], fields: Json) -> list[Endpoint]:
        return [
            endpoint
            for endpoint in self.endpoints
            if endpoint.ready
            and endpoint not in but
            and endpoint.context_tokens >= tokens
            and unsupported(endpoint.dialect, fields) is None
        ]

    def _refuse_unsupported(self, fields: Json) -> None:
        """Not where waiting helps: a worker that is away may be the one that can do it."""
        if not self.ready:
            return
        lacking = [unsupported(endpoint.dialect, fields) for endpoint in self.endpoints]
        if None not in lacking:
            raise InvalidRequest(
                f"The model server behind this gateway does not support '{lacking[0]}'.",
                param=lacking[0],
                code="unsupported_parameter",
            )
