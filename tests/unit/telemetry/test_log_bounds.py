import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from app.telemetry.log_bounds import (
    FIRST_REQUESTS,
    LINES_OF_A_KIND,
    MAX_KINDS,
    WINDOW_SECONDS,
    FloodBound,
    RequestSampling,
)

THREADS = 8
WITHIN_SECONDS = 30.0  # only spent on failure
IDS = [f"req_{number:032x}" for number in range(2_000)]


def request(request_id: str = IDS[0], **fields: Any) -> EventDict:
    return {
        "event": "request",
        "request_id": request_id,
        "status": 200,
        "outcome": "completed",
        "ttft_ms": 100.0,
        "duration_ms": 90_000.0,
    } | fields


def sampling(ratio: float, *, begun: bool = True) -> RequestSampling:
    sampled = RequestSampling(ratio, slow_seconds=30.0)
    if begun:  # past the first ones
        for number in range(FIRST_REQUESTS):
            kept(sampled, request(f"req_first{number}"))
    return sampled


def kept(processor: Any, event: EventDict) -> bool:
    try:
        processor(None, "", event)
    except structlog.DropEvent:
        return False
    return True


def test_of_requests_that_went_well_a_share_is_kept_and_says_which() -> None:
    sampled = sampling(0.25)
    events = [request(each) for each in IDS]
    lines = [event for event in events if kept(sampled, event)]
    assert 0.2 < len(lines) / len(IDS) < 0.3
    assert {line["sample_ratio"] for line in lines} == {0.25}


def test_two_replicas_keep_the_same_and_a_larger_share_has_all_of_a_smaller_one() -> None:
    def ids(ratio: float) -> set[str]:
        sampled = sampling(ratio)
        return {each for each in IDS if kept(sampled, request(each))}

    assert ids(0.25) == ids(0.25)
    assert ids(0.1) < ids(0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 401, "outcome": "refused"},
        {"status": 502, "outcome": "failed"},
        {"outcome": "cancelled"},
        {"ttft_ms": 30_000.0},
    ],
)
def test_errors_and_slow_requests_are_always_told_and_stand_for_themselves(
    fields: dict[str, Any],
) -> None:
    sampled = sampling(0.0)
    event = request(**fields)
    assert kept(sampled, event)
    assert "sample_ratio" not in event


def test_a_request_without_a_token_is_slow_by_its_end() -> None:
    event = request()
    del event["ttft_ms"]
    assert kept(sampling(0.0), event)


def test_the_first_requests_of_a_process_are_told() -> None:
    sampled = sampling(0.0, begun=False)
    assert sum(kept(sampled, request(each)) for each in IDS) == FIRST_REQUESTS


def test_all_are_told_by_default_and_other_events_are_never_sampled() -> None:
    whole = RequestSampling(1.0, slow_seconds=30.0)
    assert all(kept(whole, request(each)) for each in IDS)
    assert kept(sampling(0.0), {"event": "worker_ejected", "worker": "w"})


class Floods:
    def __init__(self) -> None:
        self.told: list[EventDict] = []
        self.now = 0.0
        self.bound = FloodBound(self.told.append, lambda: self.now)

    def lines(self, count: int, event: str, **fields: Any) -> int:
        """How many of them are written."""
        each: EventDict = {"level": "warning", "event": event, **fields}
        return sum(kept(self.bound, dict(each)) for _ in range(count))


def test_a_flood_of_one_kind_is_cut_and_its_rest_is_counted() -> None:
    floods = Floods()
    assert floods.lines(500, "worker_failed", worker="a", request_id="1") == LINES_OF_A_KIND
    assert floods.told == []
    floods.now += WINDOW_SECONDS
    assert floods.lines(1, "worker_ejected", worker="a") == 1
    assert floods.told == [
        {
            "level": "warning",
            "event": "lines_dropped",
            "of": "worker_failed",
            "worker": "a",
            "lines": 500 - LINES_OF_A_KIND,
            "within_seconds": WINDOW_SECONDS,
        }
    ]
    assert floods.lines(500, "worker_failed", worker="a") == LINES_OF_A_KIND


def test_one_flood_hides_no_other_event_and_no_other_worker() -> None:
    floods = Floods()
    floods.lines(500, "worker_failed", worker="a")
    assert floods.lines(5, "worker_failed", worker="b") == 5
    assert floods.lines(5, "worker_ejected", worker="a") == 5


def test_a_library_is_one_kind_whatever_it_says() -> None:
    floods = Floods()
    written = sum(floods.lines(1, f"lost {n}", logger="asyncio") for n in range(100))
    assert written == LINES_OF_A_KIND
    floods.now += WINDOW_SECONDS
    floods.lines(1, "other")
    assert (floods.told[0]["logger"], floods.told[0]["lines"]) == ("asyncio", 80)


@pytest.mark.parametrize("event", ["request", "audit_read", "audit_open_metadata"])
def test_what_is_a_record_is_never_dropped(event: str) -> None:
    assert Floods().lines(500, event) == 500


def test_what_is_remembered_of_kinds_is_bounded() -> None:
    floods = Floods()
    written = sum(floods.lines(1, "worker_failed", worker=str(n)) for n in range(MAX_KINDS + 50))
    assert written == MAX_KINDS + 50
    assert len(floods.bound._windows) == MAX_KINDS


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """The interpreter goes from one thread to the next as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
def test_threads_that_end_windows_together_fail_no_line_and_tell_of_each_once() -> None:
    floods = Floods()
    kinds = [f"w{number}" for number in range(MAX_KINDS)]
    for kind in kinds:
        floods.lines(LINES_OF_A_KIND + 1, "worker_failed", worker=kind)
    floods.now += WINDOW_SECONDS
    met = threading.Barrier(THREADS)

    def line(number: int) -> int:
        met.wait(WITHIN_SECONDS)
        return floods.lines(1, f"event_{number}")

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(line, range(THREADS))) == [1] * THREADS
    assert sorted(told["worker"] for told in floods.told) == sorted(kinds)
