"""The words and headers that clients act on."""

import re

import pytest

from app.limits.refusals import LimitReached, QuotaReached, limit_reached, spoken
from app.limits.subjects import NO_STANDING, Refusal, Scope, Subject
from tests.support.limited import key, tenant

# What clients look for in the message, to know how long to wait.
TRY_AGAIN = re.compile(r"try again in\s*(\d+(?:\.\d+)?)\s*(s|ms|seconds?)")


def refused(
    scope: Scope,
    wait: float | None,
    *,
    used: int = 40,
    requested: int = 1,
    subject: Subject | None = None,
    drawn: float = 0.0,
) -> LimitReached:
    refusal = Refusal(subject or key(), scope, wait, 40, used, requested)
    return limit_reached(refusal, NO_STANDING, lambda: drawn)


def test_a_rate_says_its_numbers_and_how_long_to_wait() -> None:
    error = refused(Scope.REQUESTS, 1.5)
    assert error.message == (
        "Rate limit reached for key_a on requests per min (RPM): Limit 40, Used 40, Requested 1. "
        "Please try again in 1.5s."
    )
    assert TRY_AGAIN.search(error.message)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert dict(error.headers()) == {b"retry-after": b"2", b"retry-after-ms": b"1500"}


def test_a_tenant_is_called_one() -> None:
    error = refused(Scope.TOKENS, 1.0, subject=tenant())
    assert "for tenant acme on tokens per min (TPM)" in error.message


@pytest.mark.parametrize(
    ("wait", "drawn", "milliseconds"),
    [
        (0.02, 0.0, b"1000"),  # never less than a second
        (0.02, 1.0, b"1250"),
        (10.0, 0.5, b"11250"),
        (150.0, 0.0, b"60000"),  # never more than SDKs obey
        (59.0, 1.0, b"60000"),
    ],
)
def test_clients_are_told_to_come_back_apart_and_within_what_they_obey(
    wait: float, drawn: float, milliseconds: bytes
) -> None:
    error = refused(Scope.TOKENS, wait, drawn=drawn)
    assert dict(error.headers())[b"retry-after-ms"] == milliseconds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.02, "20ms"),
        (0.0200001, "20ms"),
        (0.0201, "21ms"),
        (0.0001, "1ms"),
        (0.9991, "1s"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (1.2341, "1.235s"),
        (150.0, "150s"),
    ],
)
def test_a_wait_is_said_as_clients_parse_it_and_not_shorter(seconds: float, said: str) -> None:
    assert spoken(seconds) == said


@pytest.mark.parametrize("scope", [Scope.TOKENS, Scope.DAY, Scope.MONTH])
def test_what_is_larger_than_the_limit_is_told_not_to_come_back(scope: Scope) -> None:
    error = refused(scope, None, requested=41)
    assert isinstance(error, QuotaReached)
    assert error.message.startswith("Request too large for key_a on tokens per ")
    assert "Limit 40, Requested 41" in error.message
    assert (error.status, error.code, error.type) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert error.headers() == [(b"x-should-retry", b"false")]


@pytest.mark.parametrize(("scope", "period"), [(Scope.DAY, "day"), (Scope.MONTH, "month")])
def test_a_spent_budget_says_when_it_begins_anew(scope: Scope, period: str) -> None:
    error = refused(scope, None)
    assert error.message.startswith("You exceeded your current quota: key_a on tokens per ")
    assert error.message.endswith(f"with the next {period} (UTC).")
    assert error.headers() == [(b"x-should-retry", b"false")]


def test_a_budget_that_running_requests_hold_may_be_waited_for() -> None:
    error = refused(Scope.DAY, 1.0)
    assert not isinstance(error, QuotaReached)
    assert error.should_retry is None
    assert error.retry_after_seconds == 1.0
