"""What a shipper sees to beside shipping, by a clock that is moved by hand."""

from datetime import UTC, datetime
from hashlib import sha256

from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from app.audit.chain import ChainHead
from app.audit.register import register
from app.audit.spool.upkeep import PARTITIONS_SECONDS, REGISTER_SECONDS, RETRY_SECONDS, Upkeep
from app.store.database import create_engine
from tests.integration.audit.spool.spooling import query

DAY_SECONDS = 86_400
MAY = datetime(2031, 5, 10, 23, 59, 59, tzinfo=UTC).timestamp()
MADE = "SELECT relname FROM pg_class WHERE relname ~ '^audit_events_2031[0-9]{4}$' ORDER BY 1"


class Hours:
    """Monotonic seconds, and the time of day with them."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return MAY + self.seconds - 1000.0


async def made(engine: AsyncEngine) -> list[object]:
    return [name for (name,) in await query(engine, MADE)]


async def enter(engine: AsyncEngine, writer: str) -> tuple[int, bytes] | None:
    registration = ChainHead(1, sha256(writer.encode()).digest())
    async with engine.begin() as connection:
        return await register(connection, writer, registration, at=0)


async def test_partitions_are_made_at_once_and_again_each_hour(engine: AsyncEngine) -> None:
    hours = Hours()
    upkeep = Upkeep(engine, hours.monotonic, hours.now)
    await upkeep.see_to_what_is_due()
    days = [f"audit_events_203105{day:02}" for day in range(9, 18)]
    assert await made(engine) == days
    hours.seconds += PARTITIONS_SECONDS - 1
    await upkeep.see_to_what_is_due()
    assert await made(engine) == days
    hours.seconds += 1  # the next day has begun
    await upkeep.see_to_what_is_due()
    assert await made(engine) == [*days, "audit_events_20310518"]


async def test_the_newest_row_of_the_register_is_known_a_minute_later(engine: AsyncEngine) -> None:
    hours = Hours()
    upkeep = Upkeep(engine, hours.monotonic, hours.now)
    await upkeep.see_to_what_is_due()
    assert upkeep.register_head is None
    first = await enter(engine, "w1")
    await upkeep.see_to_what_is_due()
    assert upkeep.register_head is None
    hours.seconds += REGISTER_SECONDS
    await upkeep.see_to_what_is_due()
    assert upkeep.register_head == first
    upkeep.registered((2, b"ours"))
    assert upkeep.register_head == (2, b"ours")


async def test_a_database_that_is_away_is_told_once_and_asked_again(
    engine: AsyncEngine, unused_port: int
) -> None:
    away = create_engine(f"postgresql://u:p@127.0.0.1:{unused_port}/x")
    hours = Hours()
    upkeep = Upkeep(away, hours.monotonic, hours.now)
    with capture_logs() as logs:
        await upkeep.see_to_what_is_due()
        hours.seconds += RETRY_SECONDS
        await upkeep.see_to_what_is_due()
        upkeep._engine = engine  # it is back
        hours.seconds += RETRY_SECONDS
        await upkeep.see_to_what_is_due()
    told = [line["event"] for line in logs if line["event"].startswith("audit_partitions")]
    assert told == ["audit_partitions_not_made", "audit_partitions_made_again"]
    await away.dispose()
