import pytest

from app.cli.plan import seconds_words, sequences_words
from app.sizing.gpus import GPUS
from app.sizing.memory import kv_pool, weights_gib
from app.sizing.model import KvType, block_tokens, kv_token_bytes
from app.sizing.plan import DEFAULT_UTILIZATION
from app.sizing.speed import decode_bound, prefill_seconds
from tests.unit.sizing.published import (
    CAPACITY,
    DECODE,
    FP8_OF_8_RANKS_AT_128K,
    LADDER_TOKENS,
    PREFILL,
    rows,
)


@pytest.mark.parametrize("row", rows(CAPACITY), ids=lambda row: f"{row[0]} x{row[1]}")
def test_what_fits_is_what_was_published(row: list[str]) -> None:
    name, ranks, gib, tokens, fp8, *bf16 = row
    pool = kv_pool(GPUS[name], int(ranks), KvType.BF16, DEFAULT_UTILIZATION)
    assert f"{pool.rank_gib:.1f}" == gib
    assert f"{pool.tokens / 1e6:.2f}M" == tokens
    assert [sequences_words(pool.sequences(length)) for length in LADDER_TOKENS] == bf16
    in_fp8 = kv_pool(GPUS[name], int(ranks), KvType.FP8, DEFAULT_UTILIZATION)
    assert sequences_words(in_fp8.sequences(LADDER_TOKENS[0])) == fp8
    assert in_fp8.tokens == 2 * pool.tokens


@pytest.mark.parametrize("row", rows(CAPACITY), ids=lambda row: f"{row[0]} x{row[1]}")
def test_fp8_holds_twice_the_length(row: list[str]) -> None:
    name, ranks, _, _, _, *bf16 = row
    pool = kv_pool(GPUS[name], int(ranks), KvType.FP8, DEFAULT_UTILIZATION)
    expected = dict(zip(LADDER_TOKENS[1:], bf16, strict=False))
    if ranks == "8" and name in FP8_OF_8_RANKS_AT_128K:
        expected[131_072] = str(FP8_OF_8_RANKS_AT_128K[name])
    if ranks == "8" and name == "a100":  # as the H100: the same memory
        expected[131_072] = str(FP8_OF_8_RANKS_AT_128K["h100"])
    found = {length: sequences_words(pool.sequences(length)) for length in expected}
    assert found == expected


@pytest.mark.parametrize("row", rows(PREFILL), ids=lambda row: f"{row[0]} x{row[1]}")
def test_prefills_take_what_was_published(row: list[str]) -> None:
    name, ranks, *published = row
    found = [prefill_seconds(GPUS[name], int(ranks), length) for length in LADDER_TOKENS]
    assert [seconds_words(*seconds) for seconds in found if seconds] == published


@pytest.mark.parametrize("row", rows(DECODE), ids=lambda row: row[0])
def test_decodes_are_bound_as_was_published(row: list[str]) -> None:
    name, *published = row
    lengths = (0, 131_072, 524_288, 1_048_576)
    found = [decode_bound(GPUS[name], 1, KvType.BF16, length) for length in lengths]
    assert [f"{bound:.0f}" for bound in found if bound] == published


def test_the_geometry_gives_the_published_blocks_and_bytes() -> None:
    assert round(weights_gib(1), 2) == 16.68
    assert [block_tokens(n, KvType.BF16) for n in (1, 2, 4, 8)] == [528, 528, 528, 272]
    assert [block_tokens(n, KvType.FP8) for n in (1, 2, 4, 8)] == [1056, 1056, 1056, 528]
    assert [kv_token_bytes(n, KvType.BF16) for n in (1, 2, 4, 8)] == [32768, 16384, 8192, 8192]
    assert kv_token_bytes(1, KvType.FP8) == 16384
