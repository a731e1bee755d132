"""How long a prompt takes to be read, and how fast an answer can be written at most."""

from app.sizing.gpus import Gpu, Rates
from app.sizing.model import (
    DECODE_WEIGHT_BYTES,
    KvType,
    attention_operations,
    gdn_operations,
    kv_token_bytes,
    linear_operations,
)

# What is left of each GPU's speed beside its neighbours, at best and at worst.
TENSOR_PARALLEL_EFFICIENCY = {1: (1.0, 1.0), 2: (0.93, 0.85), 4: (0.86, 0.75), 8: (0.76, 0.6)}
# The recurrent kernels of the GDN layers, on any GPU: they wait for each other, not for arithmetic.
GDN_TFLOPS = (60.0, 30.0)
MEMORY_EFFICIENCY = 0.8  # of the bandwidth in the data sheet
TERA = 1e12


def prefill_seconds(gpu: Gpu, tensor_parallel: int, tokens: int) -> tuple[float, float] | None:
    """From and to, of one prompt alone; None where nothing is known of the GPU's speed."""
    if gpu.fast is None or gpu.slow is None:
        return None
    best, worst = TENSOR_PARALLEL_EFFICIENCY[tensor_parallel]
    fast = _prefill(gpu.fast, GDN_TFLOPS[0], tokens) / (tensor_parallel * best)
    slow = _prefill(gpu.slow, GDN_TFLOPS[1], tokens) / (tensor_parallel * worst)
    return fast, slow


def _prefill(rates: Rates, gdn_tflops: float, tokens: int) -> float:
    return (
        linear_operations(tokens) / rates.linear
        + attention_operations(tokens) / rates.attention
        + gdn_operations(tokens) / gdn_tflops
    ) / TERA


def decode_bound(gpu: Gpu, tensor_parallel: int, kv: KvType, context_tokens: int) -> float | None:
    """Tokens a second of one answer alone, which memory's bandwidth allows at most; what the ranks
    say to each other is not in it. None where the bandwidth is not known."""
    if gpu.bandwidth_gb_per_second is None:
        return None
    weights = DECODE_WEIGHT_BYTES / tensor_parallel
    cache = context_tokens * kv_token_bytes(tensor_parallel, kv)
    return MEMORY_EFFICIENCY * gpu.bandwidth_gb_per_second * 1e9 / (weights + cache)
