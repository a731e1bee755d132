"""The few shapes that a board is drawn with, in Grafana's dark colours."""

from collections.abc import Iterable, Sequence
from html import escape

BACKGROUND, CARD, EDGE, GRID = "#111217", "#181b1f", "#2c3235", "#2a2d33"
TEXT, FAINT = "#d8d9da", "#8e9198"
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
# Grafana's palette for lines, in its order.
PALETTE = (
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
    "#508642", "#cca300", "#447ebc", "#c15c17",
)  # fmt: skip
CHARACTER_WIDTHS = 0.54  # of the height, on average, in the fonts that are asked for
FONTS = "Inter, 'Helvetica Neue', Arial, sans-serif"

Point = tuple[float, float]


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 12,
    colour: str = TEXT,
    anchor: str = "start",
    bold: bool = False,
) -> str:
    """`y` is the base line."""
    weight = ' font-weight="500"' if bold else ""
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:g}" fill="{colour}"{place}{weight}>'
        f"{escape(words)}</text>"
    )


def rectangle(
    x: float, y: float, width: float, height: float, fill: str, *, edge: str = "", round_px: int = 0
) -> str:
    stroke = f' stroke="{edge}"' if edge else ""
    corner = f' rx="{round_px}"' if round_px else ""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" fill="{fill}"'
        f"{stroke}{corner}/>"
    )


def straight(start: Point, end: Point, colour: str, *, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="6 5"' if dashed else ""
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{colour}"{dash}/>'
    )


def stroke(points: Sequence[Point], colour: str) -> str:
    if len(points) == 1:
        (x, y) = points[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" fill="{colour}"/>'
    return f'<path d="{_path(points)}" fill="none" stroke="{colour}" stroke-width="1.3"/>'


def area(upper: Sequence[Point], lower: Sequence[Point], colour: str, share: float) -> str:
    """Between two lines, `share` of it opaque."""
    outline = _path([*upper, *reversed(lower)])
    return f'<path d="{outline}z" fill="{colour}" fill-opacity="{share:g}"/>'


def group(parts: Iterable[str], *, hint: str = "") -> str:
    """`hint` is shown where a pointer rests on it."""
    told = f"<title>{escape(hint)}</title>" if hint else ""
    return "<g>" + told + "".join(parts) + "</g>"


def page(width: float, height: float, parts: Iterable[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="{FONTS}">'
    )
    return "\n".join([head, rectangle(0, 0, width, height, BACKGROUND), *parts, "</svg>", ""])


def cut_to(words: str, width: float, size: float) -> str:
    """With an ellipsis, where it would be wider."""
    most = max(int(width / (size * CHARACTER_WIDTHS)), 1)
    return words if len(words) <= most else words[: most - 1] + "…"


def _path(points: Sequence[Point]) -> str:
    kept = [
        point
        for at, point in enumerate(points)
        if at in (0, len(points) - 1) or not _level(points[at - 1], point, points[at + 1])
    ]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in kept)


def _level(before: Point, point: Point, after: Point) -> bool:
    """A point in the midst of a level line says nothing."""
    return abs(before[1] - point[1]) < 0.05 and abs(after[1] - point[1]) < 0.05
