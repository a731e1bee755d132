"""The workers as the data path uses them: which are there, how to ask them, how patiently."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from app.protocol.request import Json
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upstream.ask import Ask
from app.upstream.client import NO_TRACE, WorkerClient
from app.upstream.dispatcher import Dispatcher, Entrance
from app.upstream.endpoint import Endpoint
from app.upstream.engines import rid_of, worker_body
from app.upstream.pool import Pool
from app.upstream.timeouts import first_byte_seconds
from app.upstream.turns import Turns
from app.upstream.worker_stream import WorkerStream

# Of one tenant: counting a million tokens takes a worker's processor some 4 s.
COUNTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Workers:
    pool: Pool
    dispatcher: Dispatcher
    client: WorkerClient
    settings: Settings
    metrics: Metrics
    counting: Turns = field(default_factory=lambda: Turns(COUNTS_AT_ONCE))

    @property
    def context_tokens(self) -> int:
        """The longest context that a ready worker has."""
        return self.pool.context_tokens

    def turn(self, ask: Ask, *, but: Collection[Endpoint] = (), retry: bool = False) -> Entrance:
        """`async with` it: a Turn on a worker, as soon as there is one for it. See
        `Dispatcher.turn`."""
        return self.dispatcher.turn(ask, but=but, retry=retry)

    def may_retry(self, ask: Ask, failed: Collection[Endpoint], *, retry: bool) -> bool:
        """Whether there is another one to ask, and not too many ask twice already."""
        return self.dispatcher.may_retry(ask, failed, retry=retry)

    async def count_tokens(self, fields: Json) -> int | None:
        """What a worker makes of this prompt, or None where none can say. No limit binds it, so a
        tenant gets few at a time. Raises Unavailable."""
        async with self.counting.of(fields.get("cache_salt", "")):  # which is the tenant's own
            return await self.client.count_tokens(self.pool.pick(), fields)

    async def open(
        self,
        endpoint: Endpoint,
        fields: Json,
        prompt_tokens: int,
        *,
        model: str,
        request_id: str,
        trace_headers: Mapping[str, str] = NO_TRACE,
    ) -> WorkerStream:
        """Asks one worker for a completion. Raises what `WorkerClient.open` raises."""
        rid = rid_of(endpoint.dialect, request_id)
        name = endpoint.model or model
        return await self.client.open(
            endpoint,
            worker_body(endpoint.dialect, endpoint.settings, name, fields, rid),
            request_id=request_id,
            first_byte_seconds=self.first_byte_seconds(endpoint, prompt_tokens),
            rid=rid,
            trace_headers=trace_headers,
        )

    def first_byte_seconds(self, endpoint: Endpoint, prompt_tokens: int) -> float:
        """A million tokens take minutes to read, and wait behind those that came before them."""
        load = endpoint.load
        reading = load.prefill_tokens + load.others_held  # which others have it read, nobody tells
        return first_byte_seconds(
            self.settings, prompt_tokens, reading, load.prefill_tokens_per_second
        )
