"""Workers that only count, and requests for them."""

from typing import Any

from app.protocol.prefix import Prefix
from app.settings import WorkerSettings
from app.settings.pool import PoolSettings
from app.store.policy import Priority
from app.telemetry.metrics import Metrics
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.ask import Ask
from app.upstream.pool import Pool


def pool_of(*workers: dict[str, Any] | None, settings: PoolSettings | None = None) -> Pool:
    """Ready workers w0, w1, ... with these settings."""
    pool = Pool(
        [
            WorkerSettings.model_validate({"url": f"http://w{index}:8000"} | (worker or {}))
            for index, worker in enumerate(workers)
        ],
        settings,
    )
    for endpoint in pool.endpoints:
        endpoint.ready = True
        endpoint.learned("m", None)
    return pool


def pool_metrics() -> PoolMetrics:
    return Metrics().pool


def ask(prompt_tokens: int = 100, **fields: Any) -> Ask:
    """Of tenant acme, with an answer of no tokens, to wait a minute."""
    values: dict[str, Any] = {
        "tenant": "acme",
        "output_tokens": 0,
        "needed_tokens": prompt_tokens,
        "fields": {},
        "prefix": Prefix(0),
        "conversation": b"",
        "priority": Priority.INTERACTIVE,
        "wait_seconds": 60.0,
    }
    return Ask(prompt_tokens=prompt_tokens, **(values | fields))
