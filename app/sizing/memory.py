"""How many sequences of a length fit."""

import math
from dataclasses import dataclass

from app.sizing.gpus import Gpu
from app.sizing.model import (
    ATTENTION_LAYERS,
    GDN_BLOCKS_PER_SEQUENCE,
    GIB,
    WEIGHT_BYTES,
    KvType,
    block_tokens,
    kv_layer_bytes,
    kv_token_bytes,
)


@dataclass(frozen=True, slots=True)
class KvPool:
    """What is left on each rank for keys, values and GDN states; all 0 where nothing is left.

    Every rank holds a share of the same sequences, so `tokens` and `blocks` are the worker's.
    """

    rank_gib: float
    tokens: float
    blocks: int
    block_tokens: int

    def sequences(self, context_tokens: int) -> float:
        """How many sequences of that length fit at once; below 1, not even one."""
        return self.blocks / (math.ceil(context_tokens / self.block_tokens) + _FIXED_BLOCKS)

    @property
    def longest_tokens(self) -> int:
        """The longest sequence that fits."""
        return max(0, self.blocks - _FIXED_BLOCKS) * self.block_tokens


_FIXED_BLOCKS = GDN_BLOCKS_PER_SEQUENCE


def weights_gib(tensor_parallel: int) -> float:
    """Of the bf16 weights, on each rank."""
    return WEIGHT_BYTES / GIB / tensor_parallel


def kv_pool(gpu: Gpu, tensor_parallel: int, kv: KvType, utilization: float) -> KvPool:
    """`utilization` is vLLM's `--gpu-memory-utilization`."""
    rank_gib = utilization * gpu.visible_gib - weights_gib(tensor_parallel) - gpu.overhead_gib
    rank_gib = max(0.0, rank_gib)
    tokens = block_tokens(tensor_parallel, kv)
    # A block of the pool holds a page of each layer of a group.
    page_bytes = tokens * kv_layer_bytes(tensor_parallel, kv)
    return KvPool(
        rank_gib=rank_gib,
        tokens=rank_gib * GIB / kv_token_bytes(tensor_parallel, kv),
        blocks=math.floor(rank_gib * GIB / (ATTENTION_LAYERS * page_bytes)),
        block_tokens=tokens,
    )
