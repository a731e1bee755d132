"""The partitions of the audit log: made when they are needed, dropped once they are old."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.partitions import last_of_chains, make_partition, make_partitions, prune
from app.audit.records import AuditIntent
from app.store.database import create_engine
from app.store.transaction import DatabaseUnavailable
from tests.integration.audit.logged import eventually, write

DAY = date(2024, 2, 28)
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE query LIKE 'ALTER TABLE%DETACH%' AND wait_event_type = 'Lock'
"""
CANCEL = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE%DETACH%'"
)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Without the partitions of the test before."""
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        for name in await partitions(engine):
            await connection.exec_driver_sql(f"DROP TABLE {name}")
    yield engine
    await engine.dispose()


async def partitions(engine: AsyncEngine) -> list[str]:
    """Tables that are named as such are among them, whether attached or not."""
    named = text(
        "SELECT relname FROM pg_class WHERE relkind = 'r' "
        "AND relname ~ '^audit_(events|messages)_[0-9]+$' ORDER BY 1"
    )
    async with engine.connect() as connection:
        return list(await connection.scalars(named))


def at(day: date, seconds: float = 0) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + seconds


def intent(request_id: str) -> AuditIntent:
    return AuditIntent(request_id, at(DAY), "/v1/models")


async def until_it_waits(engine: AsyncEngine) -> None:
    """Until a removal waits for who reads what it removes."""

    async def waits() -> bool:
        async with engine.connect() as connection:
            return bool(await connection.scalar(text(WAITING)))

    await eventually(waits)


async def log_of_days(engine: AsyncEngine, count: int) -> list[date]:
    days = [DAY + timedelta(number) for number in range(count)]
    for day in days:
        await make_partition(engine, day)
        await write(engine, intent(f"req_{day}"), at=at(day))
    return days


async def test_a_day_is_found_by_time_without_an_entry_for_each_event(engine: AsyncEngine) -> None:
    """Events come in the order of time: a summary of each range of pages is enough."""
    await make_partition(engine, DAY)
    indexes = text("SELECT indexdef FROM pg_indexes WHERE tablename = 'audit_events_20240228'")
    async with engine.connect() as connection:
        found = list(await connection.scalars(indexes))
    assert any(each.endswith(" USING brin (recorded_at)") for each in found), found


async def test_partitions_are_made_around_a_day_and_made_once(engine: AsyncEngine) -> None:
    await make_partitions(engine, DAY)
    await make_partitions(engine, DAY + timedelta(1))
    days = ["20240227", "20240228", "20240229", *(f"2024030{day}" for day in range(1, 8))]
    assert await partitions(engine) == [
        f"audit_{table}_{day}" for table in ("events", "messages") for day in days
    ]


async def test_a_day_begins_and_ends_in_utc(engine: AsyncEngine) -> None:
    await make_partition(engine, DAY)
    await write(engine, intent("req_first"), at=at(DAY))
    await write(engine, intent("req_last"), at=at(DAY, 86_400 - 1e-6))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM audit_events_20240228")) == 2


@pytest.mark.parametrize("day", [date(1970, 1, 1), date(2106, 2, 7), date(9998, 12, 31)])
async def test_there_are_partitions_for_clocks_that_are_wrong(
    engine: AsyncEngine, day: date
) -> None:
    await make_partition(engine, day)
    assert f"audit_events_{day:%Y%m%d}" in await partitions(engine)


async def test_many_who_make_the_same_partitions_do_not_fail(
    database_url: str, engine: AsyncEngine
) -> None:
    others = [create_engine(database_url, connections=1) for _ in range(6)]
    try:
        await asyncio.gather(*(make_partitions(each, DAY) for each in others))
    finally:
        for each in others:
            await each.dispose()
    assert len(await partitions(engine)) == 18


async def test_who_reads_the_log_delays_no_new_partition(engine: AsyncEngine) -> None:
    await make_partition(engine, DAY)
    async with engine.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM audit_events, audit_messages"))
        await make_partition(engine, DAY + timedelta(1))
        # Those that are there already are none to wait for either.
        await make_partitions(engine, DAY)
    assert len(await partitions(engine)) == 18


async def test_no_more_than_a_year_is_made_at_once(engine: AsyncEngine) -> None:
    many = text("SELECT audit_make_partitions('2024-01-01', '2026-01-01')")
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="more than a year"):
            await connection.execute(many)
    assert await partitions(engine) == []


async def test_old_events_go_and_their_messages_a_day_later(engine: AsyncEngine) -> None:
    days = await log_of_days(engine, 4)
    expected = [
        "audit_events_20240228", "audit_events_20240229", "audit_messages_20240228",
    ]  # fmt: skip
    assert await prune(engine, days[2]) == expected
    assert await partitions(engine) == [
        "audit_events_20240301", "audit_events_20240302",
        "audit_messages_20240229", "audit_messages_20240301", "audit_messages_20240302",
    ]  # fmt: skip
    assert await prune(engine, days[2]) == []
    async with engine.connect() as connection:
        found = await connection.scalars(text("SELECT request_id FROM audit_events ORDER BY 1"))
        assert list(found) == ["req_2024-03-01", "req_2024-03-02"]


async def test_a_removal_waits_for_who_reads_and_keeps_nobody_from_writing(
    engine: AsyncEngine,
) -> None:
    days = await log_of_days(engine, 2)
    async with engine.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM audit_events"))
        pruning = asyncio.ensure_future(prune(engine, days[1]))
        await until_it_waits(engine)
        await write(engine, intent("req_new"), at=at(days[1]))
        assert not pruning.done()
        await reader.rollback()
        assert await pruning == ["audit_events_20240228"]


async def test_a_removal_that_was_cut_short_is_finished_by_the_next(
    database_url: str, engine: AsyncEngine
) -> None:
    days = await log_of_days(engine, 2)
    other = create_engine(database_url, connections=1)
    async with engine.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM audit_events"))
        async with other.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            detaching = asyncio.ensure_future(
                connection.exec_driver_sql(
                    "ALTER TABLE audit_events DETACH PARTITION audit_events_20240228 CONCURRENTLY"
                )
            )
            await until_it_waits(engine)
            await reader.execute(text(CANCEL))
            with pytest.raises(DBAPIError, match="user request"):
                await detaching
    await other.dispose()
    pending = text("SELECT count(*) FROM pg_inherits WHERE inhdetachpending")
    async with engine.connect() as connection:
        assert await connection.scalar(pending) == 1
    assert await prune(engine, days[1]) == ["audit_events_20240228"]
    assert "audit_events_20240228" not in await partitions(engine)


async def test_a_partition_that_is_detached_and_not_dropped_goes_with_the_next_removal(
    engine: AsyncEngine,
) -> None:
    days = await log_of_days(engine, 2)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "ALTER TABLE audit_events DETACH PARTITION audit_events_20240228"
        )
    # It is no partition, and never taken for one.
    with pytest.raises(DBAPIError, match="audit_events_20240228 is no partition of audit_events"):
        await make_partition(engine, DAY)
    assert await prune(engine, days[1]) == ["audit_events_20240228"]
    await make_partition(engine, DAY)


async def test_two_removals_at_once_are_not_done(engine: AsyncEngine) -> None:
    days = await log_of_days(engine, 2)
    async with engine.connect() as reader:
        await reader.execute(text("SELECT count(*) FROM audit_events"))
        pruning = asyncio.ensure_future(prune(engine, days[1]))
        await until_it_waits(engine)
        with pytest.raises(DatabaseUnavailable) as failure:
            await prune(engine, days[1])
        assert "by another process" in failure.value.reason
    assert await pruning == ["audit_events_20240228"]


async def test_the_last_event_of_each_chain_is_known_before_it_goes(engine: AsyncEngine) -> None:
    for number in range(3):
        await make_partition(engine, DAY + timedelta(number))
    early = await write(engine, intent("a"), intent("b"), at=at(DAY))
    late = await write(engine, intent("c"), at=at(DAY + timedelta(1), 86_399))
    await write(engine, intent("d"), at=at(DAY + timedelta(2)))
    found = await last_of_chains(engine, DAY + timedelta(2))
    assert sorted(found.values()) == sorted([early[-1], late[-1]])
    assert await last_of_chains(engine, DAY) == {}


async def test_a_database_that_is_away_is_said_to_be(unused_port: int) -> None:
    engine = create_engine(f"postgresql://u:p@127.0.0.1:{unused_port}/x")
    for attempt in (prune(engine, DAY), last_of_chains(engine, DAY)):
        with pytest.raises(DatabaseUnavailable):
            await attempt
    await engine.dispose()
