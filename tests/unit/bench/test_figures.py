from dataclasses import replace

import orjson
import pytest

from bench.figures import Beside, Figures, Row, as_json, as_table, percentile_ms

ROW = Row(
    scenario="unary",
    title="unary request",
    events=None,
    nginx_us=10.0,
    gateway_us=300.0,
    nginx_per_second=5000.0,
    gateway_per_second=2000.0,
    added_p50_ms=0.3,
    added_p99_ms=1.0,
)
BESIDE = Beside(1.0, 2.0, 8.0, 61.0, large_per_second=20.0, small_answers=100)


@pytest.mark.parametrize(("wheel", "verdict"), [(False, "ok"), (True, "MISSED")])
def test_the_wheels_nginx_has_targets_of_its_own(wheel: bool, verdict: str) -> None:
    table = as_table(Figures("nginx", wheel, rows=[ROW]))
    assert "30.0x" in table
    assert verdict in table


def test_a_stream_is_told_by_the_event_too() -> None:
    stream = replace(ROW, scenario="stream", events=100)
    *_, told = (
        line
        for line in as_table(Figures("nginx", True, rows=[stream])).splitlines()
        if "per" in line
    )
    assert told.split() == ["of", "which", "per", "event", "0.1", "3.0"]


def test_what_stands_beside_the_table_has_targets() -> None:
    table = as_table(Figures("nginx", True, beside=BESIDE, idle_mib=90.0, after_mib=100.0))
    assert "target p99 <= 60 ms: MISSED" in table
    assert "90 MiB (100 after the load); target <= 120 MiB: ok" in table


def test_a_wrong_answer_is_told() -> None:
    assert "WRONG ANSWER: gateway: status 500" in as_table(
        Figures("nginx", True, faults=["gateway: status 500"])
    )


def test_the_json_has_ratios_and_targets() -> None:
    told = orjson.loads(as_json(Figures("nginx", False, rows=[ROW], beside=BESIDE)))
    assert told["rows"][0] | {"ratio": 30.0, "max_ratio": 40.0} == told["rows"][0]
    assert told["beside"]["gateway_p99_ms"] == 61.0
    assert told["max_idle_mib"] == 120.0


def test_a_percentile_is_one_of_the_values() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert percentile_ms(seconds, 50) == pytest.approx(50)
    assert percentile_ms(seconds, 99) == pytest.approx(99)
    assert percentile_ms([0.007], 99) == pytest.approx(7)
