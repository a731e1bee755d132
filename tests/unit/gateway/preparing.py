"""`prepare` with all its parts but the workers, of which only a context and a count are needed."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from app.gateway.expect import Learned
from app.gateway.prepare import prepare
from app.gateway.types import Caller, PreparedRequest, Principal
from app.protocol.prefix import PrefixMemory
from app.protocol.request import ChatRequest, Json
from app.protocol.sealed import Sealer
from app.protocol.token_estimate import TokenEstimates
from app.rules.load import shipped
from app.settings import Settings
from app.store.policy import Limits, Policy
from app.telemetry.metrics import Metrics
from app.upstream.workers import Workers

NOW = 1_790_000_000.0  # wall-clock seconds
CALLER = Caller("req_abc", "/v1/chat/completions", "POST", received_at=NOW, started_at=1.0)
PRINCIPAL = Principal("key_1", "acme", "n", Policy())
USER: Json = {"role": "user", "content": "hi"}
REQUEST = ChatRequest("qwythos", (USER,), body_bytes=60)
SEALER = Sealer([b"k" * 32], seconds=3_600)


@dataclass
class Counting:
    """Stands where the workers are: a context, and a count that is asked for or not."""

    context_tokens: int = 10_000
    count: int | None = None
    asked: int = 0
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    async def count_tokens(self, fields: dict[str, Any]) -> int | None:
        self.asked += 1
        return self.count

    def counted(self, name: str) -> float:
        """The value of a metric, with its labels as they are shown."""
        for line in self.metrics.render()[0].decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


def learned() -> Learned:
    return Learned(TokenEstimates(max_keys=10), PrefixMemory(seconds=600, entries=1_000))


async def run(
    request: ChatRequest = REQUEST,
    workers: Counting | None = None,
    *,
    sealer: Sealer | None = SEALER,
    settings: Settings | None = None,
    tenant: str = "acme",
    tenant_limits: Limits = Limits(),  # noqa: B008 - frozen
    knowing: Learned | None = None,
    now: float = NOW,
    **policy: Any,
) -> PreparedRequest:
    return await prepare(
        request,
        shipped().profile("off"),
        replace(PRINCIPAL, tenant=tenant, policy=Policy(**policy), tenant_limits=tenant_limits),
        replace(CALLER, received_at=now),
        settings or Settings(default_output_tokens=2_000),
        b"pepper",
        cast(Workers, workers or Counting()),
        sealer,
        knowing or learned(),
    )


def tool(name: str, **parameters: Any) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}
