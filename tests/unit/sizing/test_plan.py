import pytest

from app.sizing.gpus import GPUS, described
from app.sizing.model import KvType
from app.sizing.plan import TENSOR_PARALLEL, Deployment, Plan, calculate, ladder, recommended

MILLION = 1_048_576


def planned(name: str, ranks: int, context_tokens: int, kv: KvType = KvType.BF16) -> Plan:
    return calculate(Deployment(GPUS[name], ranks, kv, context_tokens))


def test_a_ladder_doubles_and_ends_with_the_context() -> None:
    assert ladder(262_144) == (32_768, 65_536, 131_072, 262_144)
    assert ladder(100_000) == (32_768, 65_536, 100_000)
    assert ladder(8_192) == (8_192,)


@pytest.mark.parametrize(
    ("name", "context_tokens", "ranks"),
    [
        ("h100", 262_144, 1),
        ("h100", MILLION, 4),  # two hold it, and take 150 s
        ("b200", MILLION, 2),
        ("a100", MILLION, 8),  # none reads it within two minutes: the fastest
        ("rtx4090", 65_536, 1),
        ("rtx4090", 131_072, 2),
    ],
)
def test_the_fewest_gpus_that_do_are_recommended(
    name: str, context_tokens: int, ranks: int
) -> None:
    plans = [planned(name, each, context_tokens) for each in TENSOR_PARALLEL]
    chosen = recommended(plans)
    assert chosen is not None
    assert chosen.deployment.tensor_parallel == ranks


def test_nothing_is_recommended_where_nothing_fits() -> None:
    gpu = described(12.0, None, None)
    plans = [calculate(Deployment(gpu, 1, KvType.BF16, 32_768))]
    assert recommended(plans) is None
    assert plans[0].pool.longest_tokens == 0
    assert plans[0].pool.rank_gib == 0


def test_the_longest_that_fits_fits_and_one_token_more_does_not() -> None:
    pool = planned("l40s", 1, MILLION).pool
    assert pool.sequences(pool.longest_tokens) == 1
    assert pool.sequences(pool.longest_tokens + 1) < 1


def test_of_a_gpu_without_a_data_sheet_only_the_memory_is_known() -> None:
    plan = calculate(Deployment(described(79.1, None, None), 1, KvType.BF16, 262_144))
    assert plan.pool == planned("h100", 1, 262_144).pool
    assert [(rung.prefill_seconds, rung.decode_tokens_per_second) for rung in plan.rungs] == [
        (None, None)
    ] * 4


def test_a_gpu_with_the_data_sheet_of_a_known_one_is_as_fast() -> None:
    plan = calculate(Deployment(described(79.1, 989, 3_350), 2, KvType.FP8, MILLION))
    assert plan.rungs == planned("h100", 2, MILLION, KvType.FP8).rungs
