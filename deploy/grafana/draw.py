"""Draws the boards as they look in Grafana, one SVG each, from what a Prometheus answers.

    python -m deploy.grafana.draw --prometheus http://127.0.0.1:9090 --minutes 60

It needs nothing but Python.
"""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deploy.grafana.drawing.frame import GAP, HEADER, MARGIN, ROW_HEIGHT, WIDTH, Box, box_of
from deploy.grafana.drawing.lines import draw_lines
from deploy.grafana.drawing.svg import FAINT, group, page, text
from deploy.grafana.drawing.values import draw_bars, draw_stat, draw_table
from deploy.grafana.panels import Json
from deploy.grafana.query import Line, Prometheus, Span

DASHBOARDS = Path(__file__).with_name("dashboards")
POINTS = 90  # of a line: more than a panel has room for, and a small file
SCRAPE_SECONDS = 15.0


class UnknownPanel(ValueError):
    """A board has a kind of panel that nobody taught this to draw."""


def draw(board: Json, prometheus: Prometheus, span: Span) -> str:
    """The SVG of one board."""
    panels = board["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = HEADER + rows * (ROW_HEIGHT + GAP) + MARGIN
    return page(
        WIDTH, height, [*_header(board, span), *(_panel(p, prometheus, span) for p in panels)]
    )


def _header(board: Json, span: Span) -> list[str]:
    start, end = (datetime.fromtimestamp(at, UTC) for at in (span.start, span.end))
    shown = f"{start:%Y-%m-%d %H:%M} to {end:%H:%M} UTC"
    return [
        text(MARGIN, 28, board["title"], size=20, bold=True),
        text(MARGIN, 50, board["description"], size=13, colour=FAINT),
        text(WIDTH - MARGIN, 28, shown, size=13, colour=FAINT, anchor="end"),
    ]


def _panel(panel: Json, prometheus: Prometheus, span: Span) -> str:
    box = box_of(panel["gridPos"])
    if panel["type"] == "row":
        return text(box.x, box.bottom - 8, panel["title"], size=15, bold=True)
    answers = [_answer(target, prometheus, span) for target in panel["targets"]]
    return group(_drawn(panel, answers, box, span), hint=panel["description"])


def _answer(target: Json, prometheus: Prometheus, span: Span) -> list[Line]:
    expr = span.filled_in(target["expr"])
    return prometheus.now(expr, span.end) if target["instant"] else prometheus.over(expr, span)


def _drawn(panel: Json, answers: Sequence[Sequence[Line]], box: Box, span: Span) -> list[str]:
    match panel["type"]:
        case "timeseries":
            return draw_lines(panel, answers, box, span)
        case "stat":
            return draw_stat(panel, answers, box, span)
        case "bargauge":
            return draw_bars(panel, answers, box)
        case "table":
            return draw_table(panel, answers, box)
    raise UnknownPanel(f"{panel['title']} is of the kind {panel['type']}")


def draw_all(prometheus: Prometheus, span: Span, out: Path) -> list[Path]:
    """The paths of what was written."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        written.append(out / f"{path.stem}.svg")
        written[-1].write_text(draw(board, prometheus, span), "utf-8")
    return written


def last(minutes: float, scrape_seconds: float) -> Span:
    """Up to now."""
    end = time.time()
    length = minutes * 60
    return Span(end - length, end, max(length / POINTS, scrape_seconds), scrape_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the boards as SVG from a live Prometheus.")
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--minutes", type=float, default=60.0, help="how far back")
    parser.add_argument("--scrape-seconds", type=float, default=SCRAPE_SECONDS)
    parser.add_argument("--out", type=Path, default=Path("docs/dashboards"))
    given = parser.parse_args()
    span = last(given.minutes, given.scrape_seconds)
    for path in draw_all(Prometheus(given.prometheus), span, given.out):
        print(path)


if __name__ == "__main__":
    main()
