"""The boards as Grafana reads them: what `dashboard-linter` asks for, and metrics that exist."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.telemetry.metrics import Metrics
from app.telemetry.series import TOKEN_KINDS
from deploy.grafana.board import GRID_COLUMNS
from deploy.grafana.build import BOARDS, DASHBOARDS, rendered
from deploy.grafana.query import Span
from tests.deploy.alert_rules import matchers
from tests.deploy.promtool import labels_of, program

Json = dict[str, Any]

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
KINDS = {"row", "stat", "timeseries", "bargauge", "table"}
UNITS = {"none", "short", "s", "bytes", "percentunit", "reqps", "ops"}  # of Grafana's many
HISTOGRAM_ENDS = ("_bucket", "_count", "_sum")
SELECTOR = re.compile(r"(\w*\()?([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}(\[[^\]]*\])?")
CHOSEN = ['job=~"$job"', 'instance=~"$instance"']
COUNTED = ("rate(", "irate(", "increase(")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
AGGREGATED = re.compile(r"\b(?:sum|min|max|count)\b")
IN_LEGEND = re.compile(r"\{\{([^}]*)\}\}")
OF_EVERY_TARGET = {"job", "instance"}  # Prometheus' own
OF_NUMBERS = {"status"}  # matched by pattern; the values of all other labels are words of ours
FIRST_TOKEN = "gateway_time_to_first_token_seconds_bucket"
HOUR = Span(0, 3600, 15, 15)
PROMTOOL = shutil.which("promtool")

PATHS = sorted(DASHBOARDS.glob("*.json"))
each_board = pytest.mark.parametrize(
    "board",
    [json.loads(path.read_text("utf-8")) for path in PATHS],
    ids=[path.stem for path in PATHS],
)


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: Json) -> Iterator[str]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield target["expr"]


def families() -> dict[str, str]:
    """The type of each metric of a gateway that has just started, by its name."""
    page = Metrics().render()[0].decode()
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))


def family_of(name: str, types: dict[str, str]) -> str | None:
    if types.get(name) in ("gauge", "counter"):
        return name
    bases = [name.removesuffix(end) for end in HISTOGRAM_ENDS if name.endswith(end)]
    return next((base for base in bases if types.get(base) == "histogram"), None)


def test_what_is_committed_is_what_the_definitions_say() -> None:
    """`python -m deploy.grafana.build` writes it."""
    committed = {path.stem: path.read_text("utf-8") for path in PATHS}
    assert committed == {board.name: rendered(board) for board in BOARDS}


@each_board
def test_a_board_is_provisioned_and_not_edited(board: Json) -> None:
    assert board["id"] is None
    assert re.fullmatch(r"qwythos-[a-z]+", board["uid"])
    assert board["editable"] is False
    assert board["title"].startswith("Qwythos Gateway / ")


@each_board
def test_source_job_and_replica_can_be_chosen(board: Json) -> None:
    source, job, instance = board["templating"]["list"]
    assert (source["type"], source["name"], source["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    assert source["label"] == "Data source"
    for variable, name, label in ((job, "job", "Job"), (instance, "instance", "Instance")):
        assert (variable["type"], variable["name"], variable["label"]) == ("query", name, label)
        assert variable["datasource"] == DATASOURCE
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        assert variable["allValue"] == ".+"
        assert variable["refresh"] == 2  # whenever another time is chosen


@each_board
def test_panels_have_numbers_of_their_own_and_overlap_nowhere(board: Json) -> None:
    numbers = Counter(panel["id"] for panel in board["panels"])
    assert [number for number, times in numbers.items() if times > 1] == []
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= GRID_COLUMNS
    grids = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
    clashes = [
        (title, other)
        for (title, a), (other, b) in combinations(grids, 2)
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    ]  # fmt: skip
    assert clashes == []


@each_board
def test_every_line_of_panels_is_filled(board: Json) -> None:
    widths = Counter[int]()
    for panel in board["panels"]:
        widths[panel["gridPos"]["y"]] += panel["gridPos"]["w"]
    assert {y: width for y, width in widths.items() if width != GRID_COLUMNS} == {}


@each_board
def test_a_panel_says_what_it_shows_and_what_to_do(board: Json) -> None:
    titles = Counter(panel["title"] for panel in panels(board))
    assert [title for title, times in titles.items() if times > 1] == []
    for panel in panels(board):
        assert panel["type"] in KINDS, panel["title"]
        assert panel["title"], panel["id"]
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        for override in panel["fieldConfig"]["overrides"]:
            for each in override["properties"]:
                assert each["id"] != "unit" or each["value"] in UNITS, panel["title"]


@each_board
def test_a_panel_asks_the_chosen_source(board: Json) -> None:
    for panel in panels(board):
        assert panel["datasource"] == DATASOURCE, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE, panel["title"]
    for annotation in board["annotations"]["list"]:
        assert annotation["datasource"] == DATASOURCE


@each_board
def test_every_query_is_of_the_chosen_jobs_and_replicas(board: Json) -> None:
    asked = [*queries(board), *(each["expr"] for each in board["annotations"]["list"])]
    for query in asked:
        selectors = SELECTOR.findall(query)
        assert selectors, query
        assert len(selectors) == query.count("{"), query
        for _, _, selected, _ in selectors:
            assert selected.split(",")[:2] == CHOSEN, query


@each_board
def test_counters_are_shown_as_rates_over_grafanas_own_intervals(board: Json) -> None:
    types = families()
    for query in queries(board):
        for function, name, _, window in SELECTOR.findall(query):
            counts = types.get(family_of(name, types) or "") in ("counter", "histogram")
            assert (function in COUNTED) is counts, query
            if counts:
                wanted = "[$__range]" if function == "increase(" else "[$__rate_interval]"
                assert window == wanted, query


@each_board
def test_every_metric_exists(board: Json) -> None:
    types = families()
    names = {name for query in queries(board) for _, name, _, _ in SELECTOR.findall(query)}
    assert {name for name in names if family_of(name, types) is None} == set()


@each_board
def test_a_query_selects_groups_and_names_by_labels_that_its_metrics_have(board: Json) -> None:
    """One that is misspelt finds nothing, and `or vector(0)` would make a good 0 of that."""
    for panel in panels(board):
        for target in panel["targets"]:
            query = target["expr"]
            there = set(OF_EVERY_TARGET)
            for _, name, selected, _ in SELECTOR.findall(query):
                labels = labels_of(name) | OF_EVERY_TARGET
                assert {label for label, _ in matchers(selected)} <= labels, query
                there |= labels
            grouped = {label for group in GROUPED.findall(query) for label in group.split(", ")}
            assert grouped <= there, query
            left = grouped if AGGREGATED.search(query) else there  # the others are gone
            assert set(IN_LEGEND.findall(target["legendFormat"])) <= left - {"le"}, query


@each_board
def test_a_query_selects_by_words_that_the_program_uses(board: Json) -> None:
    for query in queries(board):
        for _, name, selected, _ in SELECTOR.findall(query):
            for label, value in matchers(selected):
                if label in OF_EVERY_TARGET | OF_NUMBERS or not value:
                    continue
                words = set(value.split("|"))
                if label == "kind" and name.endswith("_tokens_total"):
                    assert words <= set(TOKEN_KINDS), query
                assert {word for word in words if f'"{word}"' not in program()} == set(), query


@each_board
def test_points_that_lead_to_a_trace_are_asked_for_where_there_are_some(board: Json) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            may_have = panel["type"] == "timeseries" and FIRST_TOKEN in target["expr"]
            assert target.get("exemplar", False) is may_have, panel["title"]


def test_every_metric_of_the_gateway_is_on_a_board() -> None:
    """One that is new, and that nobody would look at, is found here."""
    types = families()
    shown = {
        family_of(name, types)
        for path in PATHS
        for query in queries(json.loads(path.read_text("utf-8")))
        for _, name, _, _ in SELECTOR.findall(query)
    }
    assert {name for name in types if name.startswith("gateway_")} - shown == set()


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: apt install prometheus)")
def test_every_query_is_promql(tmp_path: Path) -> None:
    asked = [query for path in PATHS for query in queries(json.loads(path.read_text("utf-8")))]
    rules = [
        {"record": f"board:query:{number}", "expr": HOUR.filled_in(query)}
        for number, query in enumerate(asked)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}), "utf-8")
    assert PROMTOOL is not None
    checked = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(asked)} rules found" in checked.stdout


def test_grafana_is_given_the_source_and_the_boards() -> None:
    (source,) = _provisioned("datasources/prometheus.yaml")["datasources"]
    assert (source["type"], source["uid"], source["isDefault"]) == (
        "prometheus",
        "prometheus",
        True,
    )
    (provider,) = _provisioned("dashboards/qwythos.yaml")["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)


def _provisioned(name: str) -> Json:
    value: Json = yaml.safe_load((GRAFANA / "provisioning" / name).read_text("utf-8"))
    return value
