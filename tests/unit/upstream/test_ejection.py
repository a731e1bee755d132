"""Workers that fail are left alone for a while, but never too many of them."""

from collections.abc import Callable

import pytest

from app.settings import WorkerSettings
from app.settings.pool import PoolSettings
from app.upstream.ejection import Ejections, Fault
from app.upstream.endpoint import Endpoint


class Bench:
    """Ejections of a pool whose clock a test moves."""

    def __init__(self, workers: int) -> None:
        self.now = 1_000.0
        self.endpoints = [
            Endpoint(WorkerSettings.model_validate({"url": f"http://w{index}:1"}))
            for index in range(workers)
        ]
        for endpoint in self.endpoints:
            endpoint.ready = True
        self.told: list[tuple[str, Fault, float]] = []
        self.ejections = Ejections(
            lambda: self.endpoints, PoolSettings(), lambda: self.now, self._tell
        )

    def _tell(self, endpoint: Endpoint, fault: Fault, seconds: float) -> None:
        self.told.append((endpoint.name, fault, seconds))

    def fails(self, endpoint: Endpoint, times: int = 5) -> None:
        for _ in range(times):
            self.ejections.failed(endpoint, Fault.CONNECT)

    def takes(self) -> list[bool]:
        return [endpoint.takes_requests(self.now) for endpoint in self.endpoints]


MakeBench = Callable[[int], Bench]


def test_five_faults_in_a_row_eject() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    bench.fails(bad, 4)
    assert bench.takes() == [True, True]
    bench.ejections.answered(bad)
    bench.fails(bad, 4)
    assert bench.takes() == [True, True]
    bench.fails(bad, 1)
    assert bench.takes() == [False, True]
    assert bench.told == [("w0:1", Fault.CONNECT, 30.0)]


def test_what_fails_while_it_is_ejected_was_there_before() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    bench.fails(bad, 30)
    assert bench.told == [("w0:1", Fault.CONNECT, 30.0)]
    assert bench.ejections.answered(bad) is False
    assert bench.takes() == [False, True]


def test_after_its_time_one_answer_lets_it_in() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    bench.fails(bad)
    assert not bench.ejections.awaits_trial(bad)
    bench.now += 30
    assert bench.ejections.awaits_trial(bad)
    assert bench.ejections.answered(bad) is True
    assert bad.ejected_until is None
    bench.fails(bad, 4)
    assert bench.takes() == [True, True]


def test_on_trial_one_fault_ejects_and_each_time_for_longer() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    bench.fails(bad)
    for _ in range(12):
        assert bad.ejected_until is not None
        bench.now = bad.ejected_until
        bench.fails(bad, 1)
    seconds = [seconds for _, _, seconds in bench.told]
    assert seconds[:4] == [30, 60, 90, 120]
    assert seconds[-1] == 300


def test_what_it_did_well_for_long_makes_up_for_what_it_did_before() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    for _ in range(2):
        bench.fails(bad)
        bench.now += 60
        bench.ejections.answered(bad)
    bench.now += 3_600
    bench.fails(bad)
    assert [seconds for _, _, seconds in bench.told] == [30, 60, 30]


def test_never_the_last_one() -> None:
    bench = Bench(1)
    bench.fails(bench.endpoints[0], 50)
    assert bench.takes() == [True]
    bench = Bench(2)
    first, second = bench.endpoints
    second.ready = False
    bench.fails(first, 50)
    assert bench.takes() == [True, False]
    second.ready = second.draining = True
    bench.fails(first, 50)
    assert bench.takes() == [True, False]


@pytest.mark.parametrize(("workers", "most"), [(2, 1), (3, 1), (4, 2), (5, 2), (8, 4)])
def test_never_more_than_half_of_them(workers: int, most: int) -> None:
    bench = Bench(workers)
    for endpoint in bench.endpoints:
        bench.fails(endpoint, 50)
    assert bench.takes().count(False) == most


def test_on_trial_it_still_counts_as_ejected_and_can_be_ejected_again() -> None:
    bench = Bench(2)
    first, second = bench.endpoints
    bench.fails(first)
    bench.now += 30
    bench.fails(second, 50)
    assert second.ejected_until is None
    bench.fails(first, 1)
    assert bench.takes() == [False, True]


def test_one_that_comes_and_goes_is_ejected_whatever_it_answers() -> None:
    bench = Bench(2)
    bad, _ = bench.endpoints
    for _ in range(3):
        bench.ejections.lost(bad)
        bench.ejections.answered(bad)
        bench.now += 4
    assert bench.told == [("w0:1", Fault.FLAPPING, 30.0)]


def test_one_that_is_lost_now_and_then_is_not() -> None:
    bench = Bench(2)
    for _ in range(10):
        bench.ejections.lost(bench.endpoints[0])
        bench.now += 31
    assert bench.told == []


def test_those_that_are_ejected_are_tried_early_where_no_other_is_left() -> None:
    bench = Bench(2)
    bad, other = bench.endpoints
    bench.fails(bad)
    assert bench.ejections.relent() is False
    other.ready = False
    assert bench.ejections.relent() is True
    assert bench.takes() == [True, False]
    assert bench.ejections.relent() is False


def mixed_bench() -> tuple[Bench, list[Endpoint], list[Endpoint]]:
    bench = Bench(6)
    for endpoint in bench.endpoints:
        endpoint.learned("qwythos", 32_768)
    for endpoint in bench.endpoints[4:]:
        endpoint.learned("qwythos", 1_010_000)
    return bench, bench.endpoints[:4], bench.endpoints[4:]


def test_never_more_than_half_of_those_that_take_the_longest_prompts() -> None:
    bench, short, long = mixed_bench()
    for endpoint in [*long, *short]:
        bench.fails(endpoint, 50)
    assert [endpoint.takes_requests(bench.now) for endpoint in long] == [False, True]
    # Long workers can stand in for short ones: of those half of the pool may go.
    assert bench.takes().count(False) == 3


def test_never_more_than_half_of_those_that_a_tag_asks_for() -> None:
    bench = Bench(6)
    tagged = bench.endpoints[:2]
    for endpoint in tagged:
        endpoint.tags = frozenset({"eu"})
    for endpoint in tagged:
        bench.fails(endpoint, 50)
    assert bench.takes() == [False, True, True, True, True, True]


def test_one_of_its_kind_is_ejected_up_to_the_next_round_of_probes() -> None:
    bench = Bench(3)
    only = bench.endpoints[0]
    only.tags = frozenset({"eu"})
    bench.fails(only)
    assert bench.takes() == [False, True, True]
    assert bench.ejections.relent() is True
    assert bench.takes() == [True, True, True]
    bench.fails(only, 1)  # on trial
    assert bench.takes() == [False, True, True]


def test_where_no_other_can_stand_in_for_it_one_is_tried_early() -> None:
    bench, _, (bad, other) = mixed_bench()
    bench.fails(bad)
    assert bench.ejections.relent() is False
    other.ready = False
    assert bench.ejections.relent() is True
    assert bad.takes_requests(bench.now)
