"""What enforces limits, built from the settings and kept running."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import structlog

from app.limits.enforcer import Enforcer
from app.limits.heartbeat import OPEN_SECONDS, Heartbeat
from app.limits.limiter import Limiter
from app.limits.local import LocalLimits
from app.limits.recounts import RECOUNT_SECONDS, Ledger, Recounts
from app.limits.redis_lane import RedisLane
from app.limits.redis_wire import make_wire
from app.limits.share import Share
from app.limits.shared import SharedLimits
from app.settings import Settings, SettingsError
from app.telemetry.metrics import Metrics

RENEWALS_IN_A_LEASE = 3  # two may be lost

# After a defect in one of the tasks behind the limits, until it is started again.
RESTART_SECONDS = 1.0

Work = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger()


@asynccontextmanager
async def limiting(settings: Settings, ledger: Ledger, metrics: Metrics) -> AsyncIterator[Limiter]:
    """With GATEWAY_REDIS_URL over all replicas, which need not answer yet; else in this process."""
    now = steady_now()
    local = partial(
        LocalLimits, now, lease_seconds=settings.lease_seconds, recount_seconds=RECOUNT_SECONDS
    )
    async with AsyncExitStack() as stack:
        background = await stack.enter_async_context(asyncio.TaskGroup())
        tasks: list[asyncio.Task[None]] = []
        stack.callback(lambda: [task.cancel() for task in tasks])
        if settings.redis_url is None:
            log.info("limits_in_this_process", hint="GATEWAY_REDIS_URL makes them hold over all")
            limiter, work = _limiter(settings, local(), local, ledger, metrics, now)
        else:
            lane = _lane(settings)
            stack.push_async_callback(lane.close)
            tasks.append(background.create_task(keep_running(lane.run)))
            shared = SharedLimits(
                lane,
                prefix=settings.redis_prefix,
                lease_seconds=settings.lease_seconds,
                recount_seconds=RECOUNT_SECONDS,
            )
            limiter, work = _limiter(settings, shared, local, ledger, metrics, now)
            heartbeat = Heartbeat(lane, shared, limiter)
            await heartbeat.start()
            if not limiter.degraded:
                log.info("limits_in_redis", replicas=limiter.replicas)
            stack.push_async_callback(heartbeat.leave)
            work.append(heartbeat.run)
        tasks += [background.create_task(keep_running(each)) for each in work]
        yield limiter


def steady_now() -> Callable[[], float]:
    """Seconds since the epoch, by a clock that nobody sets: a step would cost or give a window."""
    offset = time.time() - time.monotonic()  # noqa: TID251 - days and months need the date
    return lambda: offset + time.monotonic()


def check_redis_url(settings: Settings) -> None:
    """Raises SettingsError for what is no URL of a Redis; whether it answers shows later."""
    if settings.redis_url is not None:
        _lane(settings)


def _lane(settings: Settings) -> RedisLane:
    assert settings.redis_url is not None  # noqa: S101 - narrows; only called where there is one
    try:
        wire = make_wire(
            settings.redis_url.get_secret_value(),
            cluster=settings.redis_cluster,
            connect_seconds=OPEN_SECONDS,
        )
    except ValueError as error:
        raise SettingsError(f"GATEWAY_REDIS_URL: {error}") from None
    return RedisLane(wire, timeout_seconds=settings.redis_timeout_seconds)


def _limiter(
    settings: Settings,
    enforcer: Enforcer,
    local: Callable[..., LocalLimits],
    ledger: Ledger,
    metrics: Metrics,
    now: Callable[[], float],
) -> tuple[Limiter, list[Work]]:
    recounts = Recounts(
        enforcer,
        ledger,
        delay_seconds=settings.recount_delay_seconds,
        clock=time.monotonic,
        metrics=metrics,
    )
    limiter = Limiter(
        enforcer=enforcer,
        stand_in=partial(local, standing_in=True),
        recounts=recounts,
        share=Share(settings.replicas, settings.outage_budget_share),
        metrics=metrics,
        clock=time.monotonic,
        now=now,
    )
    renewals = partial(limiter.run_renewals, settings.lease_seconds / RENEWALS_IN_A_LEASE)
    return limiter, [recounts.run, limiter.run_late, renewals]


async def keep_running(work: Work) -> None:
    """Until it is cancelled. What goes wrong behind a cache may not end a process that serves."""
    while True:
        try:
            await work()
        except Exception:  # whatever it is: told with its place, and gone on from
            log.exception("limits_task_failed")
        await asyncio.sleep(RESTART_SECONDS)
