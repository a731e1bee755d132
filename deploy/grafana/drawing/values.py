"""Panels of single values: a number, bars, a table."""

from collections.abc import Sequence

from deploy.grafana.drawing.frame import (
    DEFAULT_COLOUR,
    Box,
    card,
    colour_of,
    legend_of,
    no_data,
)
from deploy.grafana.drawing.lines import Axes
from deploy.grafana.drawing.numbers import written
from deploy.grafana.drawing.svg import (
    EDGE,
    FAINT,
    NAMED,
    area,
    cut_to,
    rectangle,
    straight,
    stroke,
    text,
)
from deploy.grafana.panels import Json
from deploy.grafana.query import Line, Span

STAT_SIZE = 34.0
SPARK_HEIGHT = 34.0
BAR_LINE = 24.0
TABLE_LINE = 26.0
FIRST_COLUMN_SHARE = 0.2


def draw_stat(panel: Json, answers: Sequence[Sequence[Line]], box: Box, span: Span) -> list[str]:
    parts = card(box, panel["title"])
    lines = [line for lines in answers for line in lines]
    if not lines:
        return parts + no_data(box)
    points = lines[0].points
    defaults, value = panel["fieldConfig"]["defaults"], lines[0].points[-1][1]
    judged = panel["options"]["colorMode"] != "none"
    colour = colour_of(value, defaults["thresholds"]) if judged else DEFAULT_COLOUR
    if len(points) > 1:
        parts += _spark(points, box, span, colour if judged else NAMED["blue"])
    words = written(value, defaults["unit"], defaults.get("decimals"))
    middle, base = box.x + box.width / 2, box.y + box.height / 2 + 16
    return [*parts, text(middle, base, words, size=STAT_SIZE, colour=colour, anchor="middle")]


def _spark(points: Sequence[tuple[float, float]], box: Box, span: Span, colour: str) -> list[str]:
    high = max(value for _, value in points) or 1.0
    low = min(0.0, min(value for _, value in points))
    below = Box(box.x + 1, box.bottom - SPARK_HEIGHT - 1, box.width - 2, SPARK_HEIGHT)
    axes = Axes(below, span, low, high)
    upper = [axes.place(at, value) for at, value in points]
    lower = [(x, below.bottom) for x, _ in upper]
    return [area(upper, lower, colour, 0.18), stroke(upper, colour)]


def draw_bars(panel: Json, answers: Sequence[Sequence[Line]], box: Box) -> list[str]:
    """The longest first."""
    parts = card(box, panel["title"])
    forms = [target["legendFormat"] for target in panel["targets"]]
    named = [
        (legend_of(form, line.labels), line.points[-1][1])
        for form, lines in zip(forms, answers, strict=True)
        for line in lines
    ]
    if not named:
        return parts + no_data(box)
    inner, unit = box.inner, panel["fieldConfig"]["defaults"]["unit"]
    named.sort(key=lambda each: each[1], reverse=True)
    named = named[: int(inner.height // BAR_LINE)]
    most = max(value for _, value in named) or 1.0
    names, numbers = inner.width * 0.48, 52.0
    for at, (name, value) in enumerate(named):
        y = inner.y + at * BAR_LINE + 4
        length = (inner.width - names - numbers) * value / most
        parts += [
            text(inner.x + names - 8, y + 13, cut_to(name, names, 12), anchor="end"),
            rectangle(inner.x + names, y, length, BAR_LINE - 8, NAMED["blue"]),
            text(inner.right, y + 13, written(value, unit, 0), anchor="end"),
        ]
    return parts


def draw_table(panel: Json, answers: Sequence[Sequence[Line]], box: Box) -> list[str]:
    """A column for each query, a row for each value of the one label that they have."""
    parts = card(box, panel["title"])
    rows = sorted({tuple(line.labels.values()) for lines in answers for line in lines})
    if not rows:
        return parts + no_data(box)
    inner = box.inner
    first = inner.width * FIRST_COLUMN_SHARE
    width = (inner.width - first) / len(answers)
    (label,) = {name for lines in answers for line in lines for name in line.labels}
    y = inner.y + 14
    parts.append(text(inner.x, y, label, colour=NAMED["blue"], bold=True))
    for at, target in enumerate(panel["targets"], 1):
        x = inner.x + first + at * width
        parts.append(
            text(x, y, target["legendFormat"], colour=NAMED["blue"], anchor="end", bold=True)
        )
    for number, row in enumerate(rows):
        y = inner.y + 14 + (number + 1) * TABLE_LINE
        parts.append(straight((inner.x, y - 17), (inner.right, y - 17), EDGE))
        parts.append(text(inner.x, y, cut_to(row[0], first, 12)))
        for at, lines in enumerate(answers):
            cell = next((line for line in lines if tuple(line.labels.values()) == row), None)
            x = inner.x + first + (at + 1) * width
            parts.append(_cell(cell, panel["fieldConfig"]["overrides"][at], x, y))
    return parts


def _cell(line: Line | None, override: Json, x: float, y: float) -> str:
    if line is None:  # a worker that does not say
        return text(x, y, "-", colour=FAINT, anchor="end")
    settings = {each["id"]: each["value"] for each in override["properties"]}
    value = line.points[-1][1]
    judged = "custom.cellOptions" in settings
    colour = colour_of(value, settings["thresholds"]) if judged else DEFAULT_COLOUR
    return text(x, y, written(value, settings["unit"]), colour=colour, anchor="end")
