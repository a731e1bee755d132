"""Where a panel stands, and what is drawn of every kind: the card and its title."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.grafana.drawing.svg import CARD, EDGE, NAMED, TEXT, cut_to, rectangle, text
from deploy.grafana.panels import GREEN, Json

WIDTH = 1_600.0
MARGIN, GAP, ROW_HEIGHT = 12.0, 8.0, 30.0
COLUMN = (WIDTH - 2 * MARGIN + GAP) / 24
HEADER = 64.0
TITLE = 30.0  # of a panel
PADDING = 10.0
DEFAULT_COLOUR = TEXT
NO_DATA = "No data"


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def inner(self) -> "Box":
        """Below the title."""
        return Box(
            self.x + PADDING,
            self.y + TITLE,
            self.width - 2 * PADDING,
            self.height - TITLE - PADDING,
        )


def box_of(grid: Mapping[str, int]) -> Box:
    return Box(
        MARGIN + grid["x"] * COLUMN,
        HEADER + grid["y"] * (ROW_HEIGHT + GAP),
        grid["w"] * COLUMN - GAP,
        grid["h"] * (ROW_HEIGHT + GAP) - GAP,
    )


def card(box: Box, title: str) -> list[str]:
    return [
        rectangle(box.x, box.y, box.width, box.height, CARD, edge=EDGE, round_px=2),
        text(
            box.x + PADDING, box.y + 20, cut_to(title, box.width - 2 * PADDING, 13), size=13,
            bold=True,
        ),
    ]  # fmt: skip


def no_data(box: Box) -> list[str]:
    middle = (box.x + box.width / 2, box.y + box.height / 2 + 4)
    return [text(*middle, NO_DATA, colour="#6e7077", anchor="middle")]


def legend_of(form: str, labels: Mapping[str, str]) -> str:
    """`{{label}}` is replaced by its value."""
    named = re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), form)
    return named or ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def colour_of(value: float, thresholds: Json) -> str:
    reached = GREEN
    for step in thresholds["steps"]:
        if step["value"] is None or value >= step["value"]:
            reached = step["color"]
    return NAMED[reached]
