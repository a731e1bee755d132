"""Panels of values over time: axes, lines or stacked areas, and a legend with last and highest."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from deploy.grafana.drawing.frame import Box, card, legend_of, no_data
from deploy.grafana.drawing.numbers import marks, written
from deploy.grafana.drawing.svg import (
    FAINT,
    GRID,
    NAMED,
    PALETTE,
    Point,
    area,
    cut_to,
    rectangle,
    straight,
    stroke,
    text,
)
from deploy.grafana.panels import Json
from deploy.grafana.query import Line, Span

LEGEND_LINE = 15.0
MAX_LEGEND_LINES = 6
AXIS_WIDTH, AXIS_HEIGHT = 58.0, 20.0
FLAT_TOP = 1.0  # of an axis on which everything is 0
ROOM_ABOVE = 1.06
TIME_MARK_WIDTH = 88.0
HOUR = 3600.0


@dataclass(frozen=True)
class Drawn:
    name: str
    colour: str
    line: Line

    @property
    def last(self) -> float:
        return self.line.points[-1][1]

    @property
    def highest(self) -> float:
        return max(value for _, value in self.line.points)


@dataclass(frozen=True)
class Axes:
    """From times and values to pixels."""

    box: Box
    span: Span
    low: float
    high: float

    def place(self, at: float, value: float) -> Point:
        share = (at - self.span.start) / (self.span.end - self.span.start)
        height = (value - self.low) / (self.high - self.low)
        return (self.box.x + share * self.box.width, self.box.bottom - height * self.box.height)


def draw_lines(panel: Json, answers: Sequence[Sequence[Line]], box: Box, span: Span) -> list[str]:
    """`answers`: the lines of each query."""
    parts = card(box, panel["title"])
    forms = [target["legendFormat"] for target in panel["targets"]]
    named = [
        (legend_of(form, line.labels), line)
        for form, lines in zip(forms, answers, strict=True)
        for line in lines
    ]
    if not named:
        return parts + no_data(box)
    defaults = panel["fieldConfig"]["defaults"]
    fixed = _fixed_colours(panel["fieldConfig"]["overrides"])
    drawn = [Drawn(name, _colour(name, at, fixed), line) for at, (name, line) in enumerate(named)]
    inner = box.inner
    legend = min(len(drawn), MAX_LEGEND_LINES) * LEGEND_LINE + LEGEND_LINE
    plot = Box(
        inner.x + AXIS_WIDTH, inner.y + 4,
        inner.width - AXIS_WIDTH, inner.height - legend - AXIS_HEIGHT - 10,
    )  # fmt: skip
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    axes = Axes(plot, span, *_bounds(drawn, defaults, stacked, span))
    parts += _grid(axes, defaults["unit"])
    parts += _stacked(axes, drawn) if stacked else _lines(axes, drawn)
    parts += _threshold(axes, defaults["thresholds"])
    below = Box(inner.x, inner.bottom - legend, inner.width, legend)
    return parts + _legend(below, drawn, defaults["unit"])


def _fixed_colours(overrides: Sequence[Json]) -> Mapping[str, str]:
    """By the pattern of the legends that have them."""
    return {
        each["matcher"]["options"].strip("/"): each["properties"][0]["value"]["fixedColor"]
        for each in overrides
    }


def _colour(name: str, at: int, fixed: Mapping[str, str]) -> str:
    found = (colour for pattern, colour in fixed.items() if re.fullmatch(pattern, name))
    return NAMED.get(next(found, ""), PALETTE[at % len(PALETTE)])


def _bounds(
    drawn: Sequence[Drawn], defaults: Json, stacked: bool, span: Span
) -> tuple[float, float]:
    lows = [min(value for _, value in each.line.points) for each in drawn]
    highest = max(each.highest for each in drawn)
    if stacked:
        highest = max(_sums(drawn).values())
    low = defaults.get("min", min(lows))
    high = defaults.get("max", highest * ROOM_ABOVE)
    return low, high if high > low else low + FLAT_TOP


def _sums(drawn: Sequence[Drawn]) -> Mapping[float, float]:
    sums: dict[float, float] = {}
    for each in drawn:
        for at, value in each.line.points:
            sums[at] = sums.get(at, 0.0) + value
    return sums


def _grid(axes: Axes, unit: str) -> list[str]:
    box, parts = axes.box, []
    for mark in marks(axes.low, axes.high, unit):
        _, y = axes.place(axes.span.start, mark)
        parts.append(straight((box.x, y), (box.right, y), GRID))
        parts.append(
            text(box.x - 6, y + 4, written(mark, unit), size=11, colour=FAINT, anchor="end")
        )
    length = axes.span.end - axes.span.start
    times = int(box.width // TIME_MARK_WIDTH)
    for number in range(times):
        at = axes.span.start + (number + 0.5) * length / times
        x, _ = axes.place(at, axes.low)
        clock = f"{datetime.fromtimestamp(at, UTC):{'%H:%M:%S' if length < HOUR else '%H:%M'}}"
        parts.append(straight((x, box.y), (x, box.bottom), GRID))
        parts.append(text(x, box.bottom + 14, clock, size=11, colour=FAINT, anchor="middle"))
    return parts


def _lines(axes: Axes, drawn: Sequence[Drawn]) -> list[str]:
    return [
        stroke([axes.place(at, value) for at, value in run], each.colour)
        for each in drawn
        for run in _runs(each.line, axes.span)
    ]


def _runs(line: Line, span: Span) -> list[list[tuple[float, float]]]:
    """Cut where values are missing."""
    runs: list[list[tuple[float, float]]] = []
    for point in line.points:
        if runs and point[0] - runs[-1][-1][0] <= 1.5 * span.step_seconds:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _stacked(axes: Axes, drawn: Sequence[Drawn]) -> list[str]:
    """Each upon those before; one that is missing at a time adds nothing there."""
    times = sorted(_sums(drawn))
    base = dict.fromkeys(times, 0.0)
    parts = []
    for each in drawn:
        values = dict(each.line.points)
        top = {at: base[at] + values.get(at, 0.0) for at in times}
        upper = [axes.place(at, top[at]) for at in times]
        lower = [axes.place(at, base[at]) for at in times]
        parts += [area(upper, lower, each.colour, 0.4), stroke(upper, each.colour)]
        base = top
    return parts


def _threshold(axes: Axes, thresholds: Json) -> list[str]:
    bound = thresholds["steps"][-1]["value"]
    if bound is None or not axes.low <= bound <= axes.high:
        return []
    _, y = axes.place(axes.span.start, bound)
    return [straight((axes.box.x, y), (axes.box.right, y), NAMED["red"], dashed=True)]


def _legend(box: Box, drawn: Sequence[Drawn], unit: str) -> list[str]:
    """The highest first, and how many more there are."""
    ordered = sorted(drawn, key=lambda each: each.highest, reverse=True)
    fits = len(ordered) <= MAX_LEGEND_LINES
    shown = ordered if fits else ordered[: MAX_LEGEND_LINES - 1]
    last, most = box.right - 84, box.right
    y = box.y + 11
    parts = [
        text(last, y, "Last", size=10.5, colour=FAINT, anchor="end"),
        text(most, y, "Max", size=10.5, colour=FAINT, anchor="end"),
    ]
    for each in shown:
        y += LEGEND_LINE
        name = cut_to(each.name, box.width - 190, 11)
        parts += [
            rectangle(box.x, y - 6, 12, 3, each.colour),
            text(box.x + 18, y, name, size=11),
            text(last, y, written(each.last, unit), size=11, anchor="end"),
            text(most, y, written(each.highest, unit), size=11, anchor="end"),
        ]
    if not fits:
        more = f"and {len(ordered) - len(shown)} more"
        parts.append(text(box.x + 18, y + LEGEND_LINE, more, size=11, colour=FAINT))
    return parts
