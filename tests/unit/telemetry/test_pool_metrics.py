import pytest
from prometheus_client import CollectorRegistry

from app.protocol.events import Usage
from app.telemetry.pool_metrics import MAX_POOLS, PoolMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_tokens_and_first_tokens_are_counted_by_the_kind_of_worker(
    registry: CollectorRegistry,
) -> None:
    metrics = PoolMetrics(registry)
    metrics.used("long", Usage(100, 50, 20, 10))
    metrics.used("long", Usage(1, 2, 3, 4))
    metrics.first_token("long", 12.0)
    tokens = "gateway_upstream_tokens_total"
    kinds = {"prompt": 101, "completion": 52, "reasoning": 23, "cached": 14}
    for kind, count in kinds.items():
        assert registry.get_sample_value(tokens, {"pool": "long", "kind": kind}) == count
    seconds = "gateway_upstream_first_token_seconds_sum"
    assert registry.get_sample_value(seconds, {"pool": "long"}) == 12


def test_more_kinds_than_anybody_has_are_counted_together(registry: CollectorRegistry) -> None:
    metrics = PoolMetrics(registry)
    for number in range(MAX_POOLS + 5):
        metrics.first_token(f"pool-{number}", 1.0)
    count = "gateway_upstream_first_token_seconds_count"
    assert registry.get_sample_value(count, {"pool": "pool-0"}) == 1
    assert registry.get_sample_value(count, {"pool": "other"}) == 5
    assert registry.get_sample_value(count, {"pool": f"pool-{MAX_POOLS}"}) is None
