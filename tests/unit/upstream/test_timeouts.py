"""How long a worker may take for its first token."""

import pytest

from app.settings import Settings
from app.upstream.reading import work_of
from app.upstream.timeouts import TimedOut, Timeout, first_byte_seconds

SETTINGS = Settings()
BASE = SETTINGS.first_byte_seconds
# Of engines.md 2.3, calculated: tokens, and the slow end of the seconds that they take to read.
H100 = {32_768: 1.4, 131_072: 8.0, 262_144: 23.0, 524_288: 73.0, 1_000_000: 255.0}


def test_an_unknown_worker_is_borne_down_to_the_floor() -> None:
    floor = SETTINGS.prefill_floor_tokens_per_second
    assert first_byte_seconds(SETTINGS, 1_000_000, 0, None) == BASE + 1_000_000 / floor


def test_a_short_prompt_waits_behind_what_is_being_read() -> None:
    alone = first_byte_seconds(SETTINGS, 100, 100, 20_000)
    behind = first_byte_seconds(SETTINGS, 100, 900_100, 20_000)
    assert alone < BASE + 1
    assert behind > BASE + 100


@pytest.mark.parametrize(("tokens", "seconds"), H100.items())
@pytest.mark.parametrize("seen", [32_768, 1_000_000])
def test_a_speed_seen_on_any_length_leaves_time_enough_for_any_other(
    tokens: int, seconds: float, seen: int
) -> None:
    speed = work_of(seen) / H100[seen]
    allowed = first_byte_seconds(SETTINGS, tokens, tokens, speed) - BASE
    assert allowed >= 2 * seconds or allowed == tokens / SETTINGS.prefill_floor_tokens_per_second


def test_a_fast_worker_is_given_up_sooner_than_an_unknown_one() -> None:
    speed = work_of(32_768) / H100[32_768]
    assert first_byte_seconds(SETTINGS, 1_000_000, 0, speed) < 900
    assert first_byte_seconds(SETTINGS, 1_000_000, 0, None) > 2_500


def test_a_prompt_that_was_in_the_cache_leaves_time_for_one_that_is_not() -> None:
    slow = H100[1_000_000]
    seen = work_of(200_000) / 1.0
    assert first_byte_seconds(SETTINGS, 1_000_000, 0, seen) > 1.5 * slow


def test_never_longer_than_the_floor_allows() -> None:
    assert first_byte_seconds(SETTINGS, 1_000_000, 0, 10.0) == (
        first_byte_seconds(SETTINGS, 1_000_000, 0, None)
    )


@pytest.mark.parametrize("kind", Timeout)
def test_an_error_says_which_time_was_over(kind: Timeout) -> None:
    error = TimedOut(kind, 123)
    assert (error.status, error.code, error.kind) == (504, "upstream_timeout", kind)
    assert ("123 s" in error.message) is (kind is not Timeout.STANDSTILL)
    assert error.should_retry is (False if kind is Timeout.TOTAL else None)
