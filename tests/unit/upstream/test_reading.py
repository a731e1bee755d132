"""How long reading takes: by itself, and behind what several workers have to read before."""

import pytest

from app.sizing.gpus import GPUS
from app.sizing.speed import prefill_seconds
from app.upstream.reading import Reader, seconds_until_read, work_of

LENGTHS = (8_000, 32_768, 131_072, 262_144, 524_288, 1_000_000)


def seconds(gpu: str, tokens: int) -> float:
    """As the GPU is calculated to take, half way between its best and its worst."""
    found = prefill_seconds(GPUS[gpu], 1, tokens)
    assert found is not None
    return sum(found) / 2


@pytest.mark.parametrize("gpu", ["a100", "h100", "b200", "l40s"])
@pytest.mark.parametrize("seen", LENGTHS)
@pytest.mark.parametrize("tokens", LENGTHS)
def test_a_speed_seen_on_any_length_tells_how_long_any_other_takes(
    gpu: str, seen: int, tokens: int
) -> None:
    told = work_of(tokens) * seconds(gpu, seen) / work_of(seen)
    assert told == pytest.approx(seconds(gpu, tokens), rel=0.3)


@pytest.mark.parametrize("cached_tokens", [0, 1_000, 300_000, 999_000])
def test_the_two_parts_of_a_prompt_are_all_of_it(cached_tokens: int) -> None:
    parts = work_of(cached_tokens) + work_of(1_000_000 - cached_tokens, cached_tokens)
    assert parts == pytest.approx(work_of(1_000_000), abs=2)


def test_one_reads_what_it_has_and_then_what_waits() -> None:
    assert seconds_until_read(0, [Reader(5.0, 100.0)]) == 5
    assert seconds_until_read(200, [Reader(5.0, 100.0)]) == 7


def test_several_share_what_waits_each_from_when_it_is_free() -> None:
    readers = [Reader(60.0, 100.0), Reader(1.0, 100.0), Reader(3.0, 300.0)]
    assert seconds_until_read(0, readers) == 1
    assert seconds_until_read(100, readers) == 2
    assert seconds_until_read(200, readers) == 3
    assert seconds_until_read(600, readers) == 4
    assert seconds_until_read(200 + 57 * 400 + 500, readers) == 61
