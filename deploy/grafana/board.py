"""A board: rows of panels, laid out from left to right, with what all boards share."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.grafana.panels import DATASOURCE, Json, Panel
from deploy.grafana.promql import series

GRID_COLUMNS = 24
SCHEMA_VERSION = 39  # of Grafana 10.4; newer ones read it as it is
TAG = "qwythos-gateway"
# A replica that is new within it is marked: longer than any scrape interval in use.
NEW_WITHIN = "2m"


@dataclass(frozen=True)
class Row:
    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Board:
    """`name` is the file's, and the end of the uid."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]

    def json(self) -> Json:
        return {
            "id": None,
            "uid": f"qwythos-{self.name}",
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "timezone": "browser",
            "time": {"from": "now-1h", "to": "now"},
            "refresh": "30s",
            "links": [_links()],
            "annotations": {"list": [_new_replicas()]},
            "templating": {"list": [_datasource(), _variable("job"), _variable("instance")]},
            "panels": _laid_out(self.rows),
        }


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    """Numbered from top to bottom; a panel that no longer fits begins a line."""
    panels: list[Json] = []
    y = 0
    for row in rows:
        grid = {"h": 1, "w": GRID_COLUMNS, "x": 0, "y": y}
        number = len(panels) + 1
        panels.append(
            {"id": number, "type": "row", "title": row.title, "gridPos": grid, "collapsed": False}
            | {"panels": []}
        )
        x, y, line_height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > GRID_COLUMNS:
                x, y, line_height = 0, y + line_height, 0
            panels.append(panel.json(len(panels) + 1, x, y))
            x, line_height = x + panel.width, max(line_height, panel.height)
        y += line_height
    return panels


def _datasource() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "refresh": 1,
        "regex": "",
    }


def _variable(label: str) -> Json:
    """Of the replicas that are there; the instances those of the chosen jobs."""
    where = "" if label == "job" else '{job=~"$job"}'
    return {
        "type": "query",
        "name": label,
        "label": label.capitalize(),
        "datasource": DATASOURCE,
        "definition": f"label_values(gateway_build_info{where}, {label})",
        "query": f"label_values(gateway_build_info{where}, {label})",
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "Qwythos Gateway",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _new_replicas() -> Json:
    """Restarts of pods and roll-outs: a replica or a version that was not there before."""
    there = f"count by (instance, version) ({series('gateway_build_info')})"
    before = f"count by (instance, version) ({series('gateway_build_info')} offset {NEW_WITHIN})"
    return {
        "name": "New replicas and versions",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": f"{there} unless {before}",
        "step": "30s",
        "titleFormat": "{{instance}} runs {{version}}",
        "useValueForTime": False,
    }
