"""PostgreSQL: does it answer, is it fit for the audit log, and may this role do what it has to, and
no more."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.doctor.database_facts import ServerFacts, server_facts
from app.doctor.database_log import log_findings
from app.doctor.finding import Finding, failed, skipped, warned, well
from app.doctor.moments import MAX_OFFSET_SECONDS, offset_words
from app.doctor.visit import Visit
from app.settings import SettingsError
from app.store.database import create_engine
from app.store.transaction import DatabaseUnavailable, in_transaction

OLDEST_VERSION = 15
CHECK_URL = "check GATEWAY_DATABASE_URL, and whether the server runs and lets this host in"


async def check(visit: Visit) -> Sequence[Finding]:
    url = visit.settings.database_url
    if url is None:
        words = "GATEWAY_DATABASE_URL is not set; `gateway dev` starts a database of its own"
        return [skipped("database", words)]
    try:
        async with _engine(url.get_secret_value()) as engine:
            return await in_transaction(engine, lambda connection: _findings(connection, visit))
    except SettingsError:
        return [skipped("database", "its URL cannot be used")]
    except DatabaseUnavailable as error:
        return [failed("database", error.reason, CHECK_URL)]


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, connections=1)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _findings(connection: AsyncConnection, visit: Visit) -> list[Finding]:
    facts = await server_facts(connection, visit.now)
    return [
        _server(facts),
        _durability(facts),
        _connections(facts, visit.settings.replicas),
        _clock(facts),
        _transport(facts),
        *await log_findings(connection, facts.now),
    ]


def _server(facts: ServerFacts) -> Finding:
    version = f"PostgreSQL {facts.version}"
    if facts.major < OLDEST_VERSION:
        advice = f"PostgreSQL {OLDEST_VERSION} or newer is needed"
        return failed("database", version, advice)
    if facts.is_read_only:
        advice = "name the primary in GATEWAY_DATABASE_URL: keys and records are written"
        return failed("database", f"{version}, which takes no writes here", advice)
    zone = f"time zone {facts.time_zone}; all that is stored is in UTC"
    return well("database", f"{version}, as {facts.role}, {zone}")


def _durability(facts: ServerFacts) -> Finding:
    off = [name for name, value in facts.durability.items() if value == "off"]
    if not off:
        return well("database durability", "what it has taken survives a crash")
    return warned(
        "database durability",
        f"{', '.join(off)} = off: the last records may be lost when the server crashes",
        "the spool lets go of what the database has taken: turn it on, for this role at least",
    )


def _connections(facts: ServerFacts, processes: int) -> Finding:
    room = facts.free_connections // facts.connections_of_process
    words = (
        f"{facts.connections_of_process} for each process; {facts.free_connections} of "
        f"{facts.max_connections} are free: room for {room} more processes"
    )
    if room >= processes:
        return well("database connections", words)
    advice = f"raise max_connections: GATEWAY_REPLICAS says that {processes} processes come"
    return warned("database connections", words, advice)


def _clock(facts: ServerFacts) -> Finding:
    words = offset_words("the database", facts.offset_seconds, facts.round_trip_seconds)
    if abs(facts.offset_seconds) <= MAX_OFFSET_SECONDS + facts.round_trip_seconds:
        return well("database clock", words)
    advice = "let both machines follow NTP: records are dated by both, and keys expire by ours"
    return warned("database clock", words, advice)


def _transport(facts: ServerFacts) -> Finding:
    if facts.encrypted:
        return well("database transport", "encrypted")
    if facts.is_local:
        return well("database transport", "on this machine")
    return warned(
        "database transport",
        "not encrypted: records and digests of keys can be read on the way",
        "add `?sslmode=verify-full` to GATEWAY_DATABASE_URL (`require` does not look at the name)",
    )
