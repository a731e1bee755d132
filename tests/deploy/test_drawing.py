"""What the pictures of the boards say in numbers and colours."""

from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.grafana.board import Board
from deploy.grafana.build import BOARDS
from deploy.grafana.drawing.frame import NO_DATA, box_of, card, colour_of, legend_of
from deploy.grafana.drawing.numbers import marks, written
from deploy.grafana.drawing.svg import NAMED, cut_to
from deploy.grafana.panels import Thresholds
from deploy.grafana.query import Span

PICTURES = Path(__file__).parents[2] / "docs" / "dashboards"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (0.0000042, "s", "4.2 µs"),
        (0.042, "s", "42 ms"),
        (42, "s", "42 s"),
        (90, "s", "1.5 min"),
        (7_200, "s", "2 h"),
        (0.123, "percentunit", "12.3%"),
        (1_536, "bytes", "1.5 KiB"),
        (0, "bytes", "0 B"),
        (1_200_000, "short", "1.2 Mil"),
        (12, "reqps", "12 req/s"),
        (1_234, "none", "1234"),
    ],
)
def test_a_number_is_written_as_grafana_writes_it(value: float, unit: str, text: str) -> None:
    assert written(value, unit) == text


@given(
    low=st.floats(-1e6, 1e6),
    length=st.floats(1e-3, 1e9),
    unit=st.sampled_from(["none", "s", "bytes", "percentunit"]),
)
def test_an_axis_has_a_few_marks_within_its_bounds(low: float, length: float, unit: str) -> None:
    found = marks(low, low + length, unit)
    slack = 1e-6 * max(abs(low), length)
    assert 2 <= len(found) <= 8
    assert all(low - slack <= mark <= low + length + slack for mark in found)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("thresholds", "value", "colour"),
    [
        (Thresholds(1, 2), 0.9, "green"),
        (Thresholds(1, 2), 1, "orange"),
        (Thresholds(1, 2), 2, "red"),
        (Thresholds(red=1, low=True), 0, "red"),
        (Thresholds(red=1, low=True), 1, "green"),
        (Thresholds(orange=3, red=1, low=True), 2, "orange"),
        (Thresholds(orange=3, red=1, low=True), 3, "green"),
    ],
)
def test_a_value_has_the_colour_of_the_last_threshold_that_it_reached(
    thresholds: Thresholds, value: float, colour: str
) -> None:
    assert colour_of(value, thresholds.json()) == NAMED[colour]


def test_a_legend_names_its_labels() -> None:
    labels = {"worker": "w0", "outcome": "ok"}
    assert legend_of("{{worker}} is {{outcome}}{{nothing}}", labels) == "w0 is ok"
    assert legend_of("", labels) == "outcome=ok, worker=w0"


@pytest.mark.parametrize("board", BOARDS, ids=[board.name for board in BOARDS])
def test_the_picture_that_is_kept_has_every_panel_where_the_board_has_it(board: Board) -> None:
    """`python -m tests.support.mixed_traffic_run --minutes 6` draws them anew."""
    picture = (PICTURES / f"{board.name}.svg").read_text("utf-8")
    missing = [
        panel["title"]
        for panel in board.json()["panels"]
        if (
            f">{escape(panel['title'])}<" not in picture
            if panel["type"] == "row"
            else "".join(card(box_of(panel["gridPos"]), panel["title"])) not in picture
        )
    ]
    assert missing == []
    assert NO_DATA not in picture


def test_what_is_too_long_ends_in_an_ellipsis() -> None:
    assert cut_to("short", 100, 10) == "short"
    assert cut_to("a" * 100, 54, 10) == "a" * 9 + "…"


def test_a_query_is_asked_over_four_scrapes_at_least() -> None:
    query = 'rate(x{job=~"$job"}[$__rate_interval]) + increase(x[$__range])'
    near = Span(0, 600, 1, 15).filled_in(query)
    assert near == 'rate(x{job=~".+"}[60s]) + increase(x[600s])'
    assert "[115s]" in Span(0, 9_000, 100, 15).filled_in(query)
