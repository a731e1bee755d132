"""Gateways whose limits are real: in a real Redis, or in the process where there is none."""

from collections.abc import Iterator

import pytest
from redis import Redis

from app.limits import heartbeat
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

# On a loaded machine the default may pass without Redis being at fault; then limits are shared out
# and not exact.
PATIENT_SECONDS = 1.0
# A budget is counted from the audit log twice as long after a request: by then its record has to be
# there, on a loaded machine, too. What comes later is missed for good.
RECOUNT_DELAY_SECONDS = 1.0


@pytest.fixture
def redis(newest_redis_url: str) -> Iterator[Redis]:
    """To look into the one that the gateways of a test use."""
    with Redis.from_url(newest_redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def limited(
    start_gateway: StartGateway, worker: ScriptedWorker, newest_redis_url: str
) -> RunningGateway:
    """With its limits in Redis."""
    return await start_gateway(
        worker, redis_url=newest_redis_url, redis_timeout_seconds=PATIENT_SECONDS
    )


@pytest.fixture(params=["redis", "process"])
async def either(
    request: pytest.FixtureRequest, start_gateway: StartGateway, worker: ScriptedWorker
) -> RunningGateway:
    """For what must be the same with Redis and without."""
    if request.param == "process":
        return await start_gateway(worker)
    return await start_gateway(
        worker,
        redis_url=request.getfixturevalue("newest_redis_url"),
        redis_timeout_seconds=PATIENT_SECONDS,
    )


@pytest.fixture
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas hear of each other, and of Redis, within moments. To be asked for first: what beats
    reads these when it waits."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(heartbeat, "PROBE_JITTER", 0.0)
