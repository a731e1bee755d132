"""What a worker of one kind can hold and how long its prompts take: calculated, not measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.sizing.gpus import Gpu
from app.sizing.memory import KvPool, kv_pool, weights_gib
from app.sizing.model import NATIVE_CONTEXT_TOKENS, KvType
from app.sizing.speed import decode_bound, prefill_seconds

TENSOR_PARALLEL = (1, 2, 4, 8)
DEFAULT_UTILIZATION = 0.92  # vLLM's own
SHORTEST_RUNG_TOKENS = 32_768
# What a gateway lets a worker take for its first byte before the prompt's length counts
# (GATEWAY_FIRST_BYTE_SECONDS). A pool whose prompts take longer is better made of more GPUs.
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """One worker: `vllm serve` on so many GPUs of a kind."""

    gpu: Gpu
    tensor_parallel: int
    kv: KvType
    context_tokens: int
    utilization: float = DEFAULT_UTILIZATION


@dataclass(frozen=True, slots=True)
class Rung:
    """Prompts of one length: how many fit at once, how long one takes to be read alone (from, to),
    and how fast an answer behind it can be written at most. None where nothing is known of it."""

    context_tokens: int
    sequences: float
    prefill_seconds: tuple[float, float] | None
    decode_tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """`rungs` double in length up to the context, which is the last."""

    deployment: Deployment
    weights_gib: float
    pool: KvPool
    rungs: tuple[Rung, ...]

    @property
    def fits(self) -> bool:
        return self.rungs[-1].sequences >= 1

    @property
    def long(self) -> bool:
        """Whether it is one of the pool for prompts beyond what the model was trained on."""
        return self.deployment.context_tokens > NATIVE_CONTEXT_TOKENS

    @property
    def slowest_prefill_seconds(self) -> float | None:
        """Of a prompt that fills the context."""
        seconds = self.rungs[-1].prefill_seconds
        return None if seconds is None else seconds[1]


def ladder(context_tokens: int) -> tuple[int, ...]:
    """32k, 64k and so on, and last the context itself."""
    rungs = []
    rung = SHORTEST_RUNG_TOKENS
    while rung < context_tokens:
        rungs.append(rung)
        rung *= 2
    return (*rungs, context_tokens)


def calculate(deployment: Deployment) -> Plan:
    gpu, tensor_parallel, kv = deployment.gpu, deployment.tensor_parallel, deployment.kv
    pool = kv_pool(gpu, tensor_parallel, kv, deployment.utilization)
    rungs = tuple(
        Rung(
            tokens,
            pool.sequences(tokens),
            prefill_seconds(gpu, tensor_parallel, tokens),
            decode_bound(gpu, tensor_parallel, kv, tokens),
        )
        for tokens in ladder(deployment.context_tokens)
    )
    return Plan(deployment, weights_gib(tensor_parallel), pool, rungs)


def recommended(plans: Sequence[Plan]) -> Plan | None:
    """Of the same GPU with more and more of them: the fewest that hold the context and, where it is
    a long one, read it within PATIENCE_SECONDS; else the most. None where none holds it."""
    fitting = [plan for plan in plans if plan.fits]
    patient = [plan for plan in fitting if not plan.long or _is_quick(plan)]
    if patient:
        return patient[0]
    return fitting[-1] if fitting else None


def _is_quick(plan: Plan) -> bool:
    seconds = plan.slowest_prefill_seconds
    return seconds is not None and seconds <= PATIENCE_SECONDS
