"""The workers as the data path uses them: which are there, how to ask them, how patiently."""

from dataclasses import dataclass, field

from app.protocol.request import Json
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.engines import worker_body
from app.upstream.pool import Pool
from app.upstream.turns import Turns
from app.upstream.worker_stream import WorkerStream

# Of one tenant: counting a million tokens takes a worker's processor some 4 s.
COUNTS_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Workers:
    pool: Pool
    client: WorkerClient
    settings: Settings
    metrics: Metrics
    counting: Turns = field(default_factory=lambda: Turns(COUNTS_AT_ONCE))

    @property
    def context_tokens(self) -> int:
        """The longest context that a ready worker has."""
        return self.pool.context_tokens

    async def count_tokens(self, fields: Json) -> int | None:
        """What a worker makes of this prompt, or None where none can say. No limit binds it, so a
        tenant gets few at a time. Raises Unavailable."""
        async with self.counting.of(fields.get("cache_salt", "")):  # which is the tenant's own
            return await self.client.count_tokens(self.pool.pick(), fields)

    async def open(
        self, endpoint: Endpoint, fields: Json, prompt_tokens: int, *, model: str, request_id: str
    ) -> WorkerStream:
        """Asks one worker for a completion. Raises what `WorkerClient.open` raises."""
        return await self.client.open(
            endpoint,
            worker_body(endpoint.dialect, endpoint.settings, endpoint.model or model, fields),
            request_id=request_id,
            first_byte_seconds=self.first_byte_seconds(prompt_tokens),
        )

    def first_byte_seconds(self, prompt_tokens: int) -> float:
        """A million tokens take minutes to read: the patience grows with the prompt."""
        prefill_seconds = prompt_tokens / self.settings.prefill_floor_tokens_per_second
        return self.settings.first_byte_seconds + prefill_seconds
