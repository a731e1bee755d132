"""The model's geometry, and the bytes and operations that follow from it.

Qwythos-9B has 32 layers: 24 gated delta nets (GDN), whose state does not grow with the text, and 8
of full attention with 4 key-value heads of 256. Layers are pooled in groups of 8 of one kind.
"""

import math
from enum import StrEnum

GIB = 1024**3

BODY_PARAMETERS = 6.919e9  # without the embedding and the output's matrix
EMBEDDING_PARAMETERS = 248_320 * 4_096  # each of the two; they are not tied
BF16_BYTES = 2
# The language model alone: `--language-model-only` leaves the 0.85 GiB of vision out.
WEIGHT_BYTES = BF16_BYTES * (BODY_PARAMETERS + 2 * EMBEDDING_PARAMETERS)
# Of a decode step the embedding is read for one token only.
DECODE_WEIGHT_BYTES = BF16_BYTES * (BODY_PARAMETERS + EMBEDDING_PARAMETERS)

ATTENTION_LAYERS = 8
KV_HEADS = 4
HEAD_DIMENSIONS = 256
QUERY_DIMENSIONS = 16 * HEAD_DIMENSIONS
# Convolution in bf16, state in float32 (`mamba_ssm_dtype`).
GDN_LAYER_BYTES = 8_192 * 3 * BF16_BYTES + 32 * 128 * 128 * 4
# Three groups of GDN layers, and two blocks of each in `align` mode.
GDN_BLOCKS_PER_SEQUENCE = 3 * 2
BLOCK_UNIT_TOKENS = 16  # vLLM's blocks are multiples of it

NATIVE_CONTEXT_TOKENS = 262_144  # beyond, YaRN stretches it
MAX_CONTEXT_TOKENS = 1_048_576


class KvType(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"

    @property
    def value_bytes(self) -> int:
        return 1 if self is KvType.FP8 else BF16_BYTES


def kv_layer_bytes(tensor_parallel: int, kv: KvType) -> int:
    """Of one token in one layer on one rank. Beyond 4 ranks the heads are replicated."""
    heads = max(1, KV_HEADS // tensor_parallel)
    return 2 * heads * HEAD_DIMENSIONS * kv.value_bytes


def kv_token_bytes(tensor_parallel: int, kv: KvType) -> int:
    """Of one token on one rank."""
    return ATTENTION_LAYERS * kv_layer_bytes(tensor_parallel, kv)


def block_tokens(tensor_parallel: int, kv: KvType) -> int:
    """As vLLM makes it: a page of attention has to hold the state of a GDN layer."""
    unit_bytes = BLOCK_UNIT_TOKENS * kv_layer_bytes(tensor_parallel, kv)
    return BLOCK_UNIT_TOKENS * math.ceil(GDN_LAYER_BYTES / tensor_parallel / unit_bytes)


def linear_operations(tokens: int) -> float:
    """Of a prefill, in the matrices; the output's is used for the last token only."""
    return 2 * BODY_PARAMETERS * tokens


def attention_operations(tokens: int) -> float:
    """Of a causal prefill: quadratic, and 83 % of everything at a million tokens."""
    return ATTENTION_LAYERS * 2 * float(tokens) ** 2 * QUERY_DIMENSIONS


def gdn_operations(tokens: int) -> float:
    return 0.138e9 * tokens
