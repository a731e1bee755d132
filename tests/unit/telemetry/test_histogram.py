from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from app.telemetry.histogram import BatchHistogram
from app.telemetry.series import BETWEEN_TOKENS_SECONDS

on_and_between_bounds = st.one_of(
    st.sampled_from(BETWEEN_TOKENS_SECONDS), st.integers(0, 100_000).map(lambda n: n / 1024)
)


@given(st.lists(on_and_between_bounds))
def test_many_at_once_count_as_one_by_one(values: list[float]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    together, single = (
        BatchHistogram("gap_seconds", "Gaps.", registry=registry, buckets=BETWEEN_TOKENS_SECONDS)
        for registry in registries
    )
    together.observe_many(values)
    for value in values:
        single.observe(value)
    counts = [
        generate_latest(registry).decode().split("gap_seconds_sum")[0] for registry in registries
    ]
    assert counts[0] == counts[1]
    assert abs(together._sum.get() - single._sum.get()) < 1e-6
