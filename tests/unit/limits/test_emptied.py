import pytest

from app.limits.emptied import MAX_SUBJECTS, Emptied
from app.limits.refusals import LimitReached
from app.limits.subjects import NO_STANDING, Refusal, Scope, Subject
from tests.support.limited import key
from tests.unit.limits.outages import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emptied(clock: Clock) -> Emptied:
    return Emptied(clock)


def refusal(
    subject: Subject, *, wait: float | None = 6.0, scope: Scope = Scope.REQUESTS
) -> Refusal:
    return Refusal(subject, scope, wait, 10, 10, 1)


def test_who_was_refused_is_refused_until_a_request_has_come_back(
    emptied: Emptied, clock: Clock
) -> None:
    subject = key(requests_per_minute=10)
    emptied.note(refusal(subject), NO_STANDING)
    clock.at += 5.5
    with pytest.raises(LimitReached, match=r"Please try again in 500ms\."):
        emptied.check([subject])
    clock.at += 0.5
    emptied.check([subject])


def test_a_limit_that_was_changed_is_asked_about(emptied: Emptied) -> None:
    emptied.note(refusal(key(requests_per_minute=10)), NO_STANDING)
    emptied.check([key(requests_per_minute=20)])


def test_others_are_not_refused(emptied: Emptied) -> None:
    emptied.note(refusal(key(requests_per_minute=10)), NO_STANDING)
    emptied.check([key("key_other", requests_per_minute=10)])


@pytest.mark.parametrize("scope", [scope for scope in Scope if scope is not Scope.REQUESTS])
def test_what_may_come_back_sooner_is_not_remembered(emptied: Emptied, scope: Scope) -> None:
    subject = key(requests_per_minute=10)
    emptied.note(refusal(subject, scope=scope), NO_STANDING)
    emptied.check([subject])


def test_it_remembers_so_many(emptied: Emptied) -> None:
    subjects = [key(f"key_{n}", requests_per_minute=10) for n in range(MAX_SUBJECTS + 1)]
    for subject in subjects:
        emptied.note(refusal(subject), NO_STANDING)
    emptied.check(subjects[:1])
    with pytest.raises(LimitReached):
        emptied.check(subjects[1:2])
