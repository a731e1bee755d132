"""Limits in a real Redis, of both flavours, on a clock that the test sets."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis import Redis

from app.limits.shared import SharedLimits
from app.limits.subjects import Subject, SubjectKind
from tests.support.redis_moments import Moment, running_lane

PREFIX = "test:"


class Stored:
    """What Redis holds of a subject."""

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis

    @staticmethod
    def name(subject: Subject) -> str:
        name = f"{PREFIX}{{{subject.tenant}}}:{subject.kind}"
        return f"{name}:{subject.id}" if subject.kind is SubjectKind.KEY else name

    def state(self, subject: Subject) -> dict[str, str]:
        state: dict[str, str] = self.redis.hgetall(self.name(subject))
        return state

    def number(self, subject: Subject, field: str) -> float:
        return float(self.state(subject).get(field, 0))

    def leases(self, subject: Subject) -> dict[str, float]:
        leases: list[Any] = self.redis.zrange(
            f"{self.name(subject)}:leases", 0, -1, withscores=True
        )
        return dict(leases)

    def lives_seconds(self, subject: Subject) -> tuple[float, float]:
        """Until Redis forgets the state, and the leases, if nobody asks."""
        name = self.name(subject)
        return self.redis.pttl(name) / 1000, self.redis.pttl(f"{name}:leases") / 1000


@pytest.fixture
def moment() -> Moment:
    return Moment(1_800_000_000_000_000)  # 2027-01-15, 08:00


@pytest.fixture
async def limits(redis_url: str, moment: Moment) -> AsyncIterator[SharedLimits]:
    async with running_lane(redis_url, moment=moment) as lane:
        yield SharedLimits(lane, prefix=PREFIX, lease_seconds=30, recount_seconds=30)


@pytest.fixture
def stored(redis_url: str) -> Iterator[Stored]:
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        yield Stored(redis)
