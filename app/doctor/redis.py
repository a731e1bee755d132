"""Redis or Valkey: does it answer in time, keeps it what limits need, does it run their scripts."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.doctor.finding import Finding, failed, skipped, warned, well
from app.doctor.moments import MAX_OFFSET_SECONDS, offset_words
from app.doctor.visit import Visit
from app.limits.enforcer import LimitsUnavailable
from app.limits.heartbeat import OPEN_SECONDS
from app.limits.recounts import RECOUNT_SECONDS
from app.limits.redis_lane import RedisLane
from app.limits.redis_wire import AWAY, make_wire
from app.limits.shared import SharedLimits
from app.settings import Settings
from app.settings.forms import MIB

OLDEST_VERSION = (6, 2)
PINGS = 5
FULL_SHARE = 0.9  # of its memory: it fills within hours where keys were not deleted
NO_EVICTION = "noeviction"
NOBODY = "gateway-doctor"  # a replica that never was: its leaving changes nothing


@dataclass(frozen=True, slots=True)
class _Facts:
    info: Mapping[str, Any]
    ping_seconds: float
    offset_seconds: float  # how far its clock is ahead of ours
    round_trip_seconds: float  # of asking for it


async def check(visit: Visit) -> Sequence[Finding]:
    settings = visit.settings
    if settings.redis_url is None:
        return [skipped("redis", "GATEWAY_REDIS_URL is not set")]
    try:
        async with _client(settings.redis_url.get_secret_value()) as client:
            facts = await _facts(client, visit)
    except ValueError:
        return [skipped("redis", "its URL cannot be used")]
    except AWAY as error:
        reason = str(error) or "no answer in time"
        return [failed("redis", reason, "check GATEWAY_REDIS_URL, and whether the server runs")]
    return [
        _server(facts, settings),
        _latency(facts, settings.redis_timeout_seconds),
        _memory(facts.info),
        _clock(facts),
        await _scripts(settings, visit.seconds),
    ]


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Redis]:
    """Of one node, also of a cluster: what is asked of it is about itself. Raises ValueError."""
    client = Redis.from_url(
        url,
        protocol=2,
        decode_responses=True,
        socket_connect_timeout=OPEN_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        await client.aclose()


async def _facts(client: Redis, visit: Visit) -> _Facts:
    await client.ping()  # connects
    pings = []
    for _ in range(PINGS):
        begun = time.perf_counter()
        await client.ping()
        pings.append(time.perf_counter() - begun)
    asked_at = visit.now()
    seconds, microseconds = await client.time()
    answered_at = visit.now()
    offset = int(seconds) + int(microseconds) / 1e6 - (asked_at + answered_at) / 2
    return _Facts(await client.info(), median(pings), offset, answered_at - asked_at)


def _server(facts: _Facts, settings: Settings) -> Finding:
    info = facts.info
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "?")
    words = f"{name} {version}"
    if _numbers(str(info.get("redis_version", "0"))) < OLDEST_VERSION:
        return failed("redis", words, "Redis 6.2 or newer, or Valkey, is needed")
    is_cluster = bool(info.get("cluster_enabled"))
    if is_cluster != settings.redis_cluster:
        kind = "a node of a cluster" if is_cluster else "no cluster"
        value = "true" if is_cluster else "false"
        return failed("redis", f"{words}, {kind}", f"set GATEWAY_REDIS_CLUSTER={value}")
    if info.get("role") == "slave" and not is_cluster:
        return failed("redis", f"{words}, a replica", "name the primary in GATEWAY_REDIS_URL")
    return well("redis", f"{words}, a cluster" if is_cluster else words)


def _latency(facts: _Facts, limit_seconds: float) -> Finding:
    words = f"{facts.ping_seconds * 1000:.1f} ms to answer, of {limit_seconds * 1000:g} ms"
    if facts.ping_seconds < limit_seconds / 2:
        return well("redis latency", words)
    advice = "bring it closer, or raise GATEWAY_REDIS_TIMEOUT_SECONDS: each request waits for it"
    return warned("redis latency", words, advice)


def _memory(info: Mapping[str, Any]) -> Finding:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", NO_EVICTION))
    if not most:
        return well("redis memory", f"{used / MIB:.0f} MiB used, no limit; {policy}")
    words = f"{used / MIB:.0f} of {most / MIB:.0f} MiB used, maxmemory-policy {policy}"
    if policy != NO_EVICTION:
        advice = f"set maxmemory-policy {NO_EVICTION}: what is evicted is a limit that is forgotten"
        return warned("redis memory", words, advice)
    if used > FULL_SHARE * most:
        return warned("redis memory", words, "raise maxmemory: a full one counts nothing")
    return well("redis memory", words)


def _clock(facts: _Facts) -> Finding:
    words = offset_words("Redis", facts.offset_seconds, facts.round_trip_seconds)
    if abs(facts.offset_seconds) <= MAX_OFFSET_SECONDS + facts.round_trip_seconds:
        return well("redis clock", words)
    advice = "let both machines follow NTP: budgets are of days and months by both clocks"
    return warned("redis clock", words, advice)


async def _scripts(settings: Settings, seconds: float) -> Finding:
    """As the limits do, and with their own script: who says that it leaves, and never was there."""
    assert settings.redis_url is not None  # noqa: S101 - check has seen to it
    wire = make_wire(
        settings.redis_url.get_secret_value(),
        cluster=settings.redis_cluster,
        connect_seconds=OPEN_SECONDS,
    )
    lane = RedisLane(wire, timeout_seconds=seconds)
    limits = SharedLimits(
        lane,
        prefix=settings.redis_prefix,
        lease_seconds=settings.lease_seconds,
        recount_seconds=RECOUNT_SECONDS,
    )
    running = asyncio.ensure_future(lane.run())
    try:
        await lane.open()
        replicas = await limits.beat(NOBODY, 0.0)
    except LimitsUnavailable as error:
        advice = "its user needs EVAL and EVALSHA, and the keys below GATEWAY_REDIS_PREFIX"
        return failed("redis scripts", str(error), advice)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await lane.close()
    return well("redis scripts", f"they run; {replicas} gateway processes count on it now")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts if part.isdigit())
