"""Panels of a board, as Grafana's JSON has them. `draw.py` draws each kind that is made here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Query:
    """`legend` names its lines: `{{label}}` is replaced. Of a table it is the column's title.
    `exemplars` are shown as points, where the data source leads from them to a trace."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Thresholds:
    """From `orange` and from `red` on a value has that colour; where `low`, below them."""

    orange: float | None = None
    red: float | None = None
    low: bool = False

    def json(self) -> Json:
        bounds = [(self.orange, ORANGE), (self.red, RED)]
        given = [(bound, colour) for bound, colour in bounds if bound is not None]
        if self.low:  # from the worst to the best, each colour up to its own bound
            colours = [colour for _, colour in reversed(given)] + [GREEN]
            values = [None] + [bound for bound, _ in reversed(given)]
        else:
            colours = [GREEN] + [colour for _, colour in given]
            values = [None] + [bound for bound, _ in given]
        steps = zip(colours, values, strict=True)
        return {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in steps]}


PLAIN = Thresholds()
NO_COLOURS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Panel:
    """`width` of 24 columns, `height` in rows of 30 pixels. `kind` is Grafana's."""

    kind: str
    title: str
    unit: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int
    thresholds: Thresholds = PLAIN
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()
    instant: bool = False
    table: bool = False

    def json(self, number: int, x: int, y: int) -> Json:
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": self.thresholds.json(),
                    **self.defaults,
                    "custom": dict(self.custom),
                },
                "overrides": list(self.overrides),
            },
            "options": dict(self.options),
            "targets": [self._target(at, query) for at, query in enumerate(self.queries)],
        }
        if self.transformations:
            panel["transformations"] = list(self.transformations)
        return panel

    def _target(self, at: int, query: Query) -> Json:
        target: Json = {
            "refId": chr(ord("A") + at),
            "datasource": DATASOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": self.instant,
            "range": not self.instant,
            "format": "table" if self.table else "time_series",
        }
        if query.exemplars:
            target["exemplar"] = True
        return target


def stat(
    title: str,
    unit: str,
    query: str,
    description: str,
    *,
    orange: float | None = None,
    red: float | None = None,
    low: bool = False,
    over_range: bool = False,
    width: int = 4,
    decimals: int | None = None,
) -> Panel:
    """One number. `over_range`: the query looks at all of the board's time by itself."""
    thresholds = Thresholds(orange, red, low)
    judged = orange is not None or red is not None
    return Panel(
        "stat", title, unit, description, [Query(query)], width, 4, thresholds,
        options={
            "colorMode": "value" if judged else "none",
            "graphMode": "none" if over_range else "area",
            "justifyMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
        defaults={} if decimals is None else {"decimals": decimals},
        instant=over_range,
    )  # fmt: skip


def lines(
    title: str,
    unit: str,
    description: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    red: float | None = None,
    ceiling: float | None = None,
    colours: Mapping[str, str] = NO_COLOURS,
) -> Panel:
    """Values over time, from 0 on. At `red` there is a line of that colour. `colours` of those
    whose whole legend matches the regular expression."""
    return Panel(
        "timeseries", title, unit, description, queries, width, 8, Thresholds(red=red),
        options={
            "legend": {
                "displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"],
                "sortBy": "Max", "sortDesc": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        custom={
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if red is None else "line"},
        },
        defaults={
            "color": {"mode": "palette-classic"},
            "min": 0,
            **({} if ceiling is None else {"max": ceiling}),
        },
        overrides=[
            {
                "matcher": {"id": "byRegexp", "options": f"/^({pattern})$/"},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
            }
            for pattern, colour in colours.items()
        ],
    )  # fmt: skip


def bars(title: str, unit: str, query: Query, description: str, *, width: int = 8) -> Panel:
    """One bar for each series, over all of the board's time."""
    return Panel(
        "bargauge", title, unit, description, [query], width, 8,
        options={
            "orientation": "horizontal",
            "displayMode": "basic",
            "showUnfilled": False,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        defaults={"color": {"mode": "fixed", "fixedColor": BLUE}, "min": 0, "decimals": 0},
        instant=True,
    )  # fmt: skip


@dataclass(frozen=True)
class Column:
    title: str
    unit: str
    expr: str
    thresholds: Thresholds = PLAIN


def table(
    title: str, by: str, columns: Sequence[Column], description: str, *, height: int = 8
) -> Panel:
    """A row for each value of the label `by`, the whole width. Colours are the columns' own."""
    letters = [chr(ord("A") + at) for at in range(len(columns))]
    names = {f"Value #{letter}": each.title for letter, each in zip(letters, columns, strict=True)}
    return Panel(
        "table", title, columns[0].unit, description,
        [Query(each.expr, each.title) for each in columns], 24, height,
        options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
        custom={"align": "auto", "cellOptions": {"type": "auto"}},
        overrides=[_override(each) for each in columns],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {by: 0} | {name: at for at, name in enumerate(names, 1)},
                    "renameByName": names,
                },
            },
        ],
        instant=True,
        table=True,
    )  # fmt: skip


def _override(column: Column) -> Json:
    properties: list[Json] = [
        {"id": "unit", "value": column.unit},
        {"id": "thresholds", "value": column.thresholds.json()},
    ]
    if column.thresholds is not PLAIN:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}
