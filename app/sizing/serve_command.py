"""The `vllm serve` line of a plan. Each flag was looked up in vLLM 0.32; no line was tried on a
GPU."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from app.sizing.model import KvType
from app.sizing.plan import PATIENCE_SECONDS, SHORTEST_RUNG_TOKENS, Plan

# The vocabulary of 248k makes a sampler's buffers large, so vLLM's 256 to 1024 are too many.
MAX_SHORT_SEQUENCES = 64
MAX_LONG_SEQUENCES = 8  # one prefill of a million tokens holds up all the others
LONG_QUEUE_REQUESTS = 2  # each waits for minutes
SHUTDOWN_SECONDS = 600  # vLLM's default of 0 cuts off what runs
ROUND_TOKENS = 10_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the worker lets in. `queued_requests` counts those that run, too: vLLM does so.
    `queued_tokens` is looked at before a request is added, so a single one is never refused."""

    sequences: int
    queued_requests: int
    queued_tokens: int | None


def bounds(plan: Plan) -> Bounds:
    """As many sequences as fit: of the whole context in a long pool; in a short one, where few
    prompts fill it, of 32k. The queue is what can be read within PATIENCE_SECONDS at worst."""
    most = MAX_LONG_SEQUENCES if plan.long else MAX_SHORT_SEQUENCES
    length = plan.deployment.context_tokens
    length = length if plan.long else min(length, SHORTEST_RUNG_TOKENS)
    sequences = max(1, min(most, math.floor(plan.pool.sequences(length))))
    waiting = LONG_QUEUE_REQUESTS if plan.long else max(1, sequences // 2)
    return Bounds(sequences, sequences + waiting, _readable_tokens(plan))


def _readable_tokens(plan: Plan) -> int | None:
    """Within PATIENCE_SECONDS at worst, by prompts that fill the context."""
    seconds = plan.slowest_prefill_seconds
    if seconds is None:
        return None
    tokens = PATIENCE_SECONDS / seconds * plan.deployment.context_tokens
    return max(ROUND_TOKENS, int(tokens) // ROUND_TOKENS * ROUND_TOKENS)


def serve_command(
    plan: Plan, *, model: str, served_name: str, sampling: Mapping[str, object]
) -> tuple[str, ...]:
    """The line in parts, each a flag with its value or several that belong together."""
    deployment, limits = plan.deployment, bounds(plan)
    parts = [f"vllm serve {model} --served-model-name {served_name}"]
    if deployment.tensor_parallel > 1:
        parts.append(f"--tensor-parallel-size {deployment.tensor_parallel}")
    parts += [
        f"--language-model-only --max-model-len {deployment.context_tokens}",
        f"--gpu-memory-utilization {deployment.utilization:g} --max-num-seqs {limits.sequences}",
    ]
    if deployment.kv is KvType.FP8:
        parts.append("--kv-cache-dtype fp8")
    parts += [
        "--reasoning-parser qwen3 --enable-auto-tool-choice --tool-call-parser qwen3_coder",
        f"--override-generation-config '{json.dumps(sampling, separators=(',', ':'))}'",
        f"--enable-prompt-tokens-details --max-num-queued-reqs {limits.queued_requests}",
    ]
    if limits.queued_tokens is not None:
        parts.append(f"--max-num-queued-tokens {limits.queued_tokens}")
    parts.append(
        f'--shutdown-timeout {SHUTDOWN_SECONDS} --disable-fastapi-docs --api-key "$WORKER_KEY"'
    )
    return tuple(parts)
