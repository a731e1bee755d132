"""A store of keys whose time is moved by hand."""

from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.keys import KeyStore

PEPPER = b"a pepper for tests"


class Clock:
    """Monotonic seconds and the time of day, moved by hand and together."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.start = datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds - 1000.0)


def store_on(
    engine: AsyncEngine, clock: Clock, entries: int = 100, outage_seconds: float = 0.0
) -> KeyStore:
    return KeyStore(
        engine,
        PEPPER,
        cache_seconds=5,
        cache_entries=entries,
        outage_seconds=outage_seconds,
        clock=clock.monotonic,
        now=clock.now,
    )
