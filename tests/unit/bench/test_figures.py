from dataclasses import replace

import orjson
import pytest

from bench.figures import (
    Beside,
    Figures,
    Limits,
    Row,
    Texts,
    as_json,
    as_table,
    percentile_ms,
)

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
    texts=Texts(share=0.2, without_us=250.0),
)
LIMITS = Limits(
    added_us=81.6,
    gateway_us=382.0,
    per_second=1800.0,
    added_p50_ms=0.1,
    added_p99_ms=-0.2,
    scripts_per_answer=2.0,
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


@pytest.mark.parametrize(
    ("share", "told"), [(0.2, "+20% <= +25% ok"), (0.26, "+26% <= +25% MISSED")]
)
def test_what_texts_on_record_add_is_a_share_of_the_same_without_them(
    share: float, told: str
) -> None:
    row = replace(ROW, texts=Texts(share=share, without_us=250.0))
    line = as_table(Figures("nginx", True, rows=[row])).splitlines()[4]
    assert line.split() == ["with", "texts", "on", "record", "300", *told.split()]


def limits_line(limits: Limits) -> list[str]:
    row = replace(ROW, limits=limits)
    return as_table(Figures("nginx", True, rows=[row])).splitlines()[5].split()


def test_what_limits_add_stands_below_the_same_without_them() -> None:
    told = "with limits in Redis 382 +82 us <= +120 us ok 1,800 +0.10 -0.20"
    assert limits_line(LIMITS) == told.split()


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (replace(LIMITS, added_us=121.0), "MISSED"),
        (replace(LIMITS, added_us=3.0, scripts_per_answer=1.0), "NOT"),  # NOT ON
    ],
)
def test_limits_have_a_target_and_must_have_been_asked_for(limits: Limits, verdict: str) -> None:
    line = limits_line(limits)
    assert verdict in line
    assert "ok" not in line


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
    assert told["rows"][0]["limits"] is None
    assert told["beside"]["gateway_p99_ms"] == 61.0
    assert told["max_idle_mib"] == 120.0


def test_the_json_tells_what_limits_add() -> None:
    row = replace(ROW, limits=LIMITS)
    told = orjson.loads(as_json(Figures("nginx", False, rows=[row])))["rows"][0]["limits"]
    expected = {"added_us": 81.6, "max_added_us": 120.0, "verdict": "ok"}
    assert told | expected == told


def test_a_percentile_is_one_of_the_values() -> None:
    seconds = [number / 1000 for number in range(1, 101)]
    assert percentile_ms(seconds, 50) == pytest.approx(50)
    assert percentile_ms(seconds, 99) == pytest.approx(99)
    assert percentile_ms([0.007], 99) == pytest.approx(7)
