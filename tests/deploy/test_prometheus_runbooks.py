"""A runbook for each alert, which names only what there is: commands, settings, events, series."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from app.cli import main
from app.settings import SECRETS, Settings
from app.settings.forms import ENV_PREFIX
from tests.deploy.alert_rules import ROOT, RUNBOOKS, Alert, alerts, metric_names
from tests.deploy.promtool import exposed, needs_promtool, program, promtool

PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.stem != "index")
MOST_LINES = 60  # at three in the morning

COMMAND = re.compile(r"(?:^ {4}|`)(gateway [a-z][^`\n#|]*)", re.M)
QUERY = re.compile(r"```promql\n(.+?)\n```", re.S)
VARIABLE = re.compile(r"\bGATEWAY_[A-Z_]+\b")
# A word of the program: a log event, a code, a reason, a state, a series.
WORD = re.compile(r"`([a-z]+(?:_[a-z0-9]+)+)`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
# Of other programs: engines, Kubernetes, Prometheus.
FOREIGN = {"process_resident_memory_bytes", "container_cpu_cfs_throttled_periods_total"}
FOREIGN_SERIES = {"up", "process_cpu_seconds_total"}

every_page = pytest.mark.parametrize(
    "page", [*PAGES, RUNBOOKS / "index.md"], ids=lambda page: page.stem
)


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def queries() -> Iterator[str]:
    for page in PAGES:
        yield from QUERY.findall(text_of(page))


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    named = {alert.annotations["runbook_url"] for alert in alerts()}
    assert named == {f"docs/runbooks/{alert.page}.md" for alert in alerts()}
    assert named == {page.relative_to(ROOT).as_posix() for page in PAGES}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.case)
def test_a_page_says_how_urgent_it_is_and_what_to_do(alert: Alert) -> None:
    text = text_of(RUNBOOKS / f"{alert.page}.md")
    assert text.startswith(f"# {alert.name}\n\n*")
    assert f"*{alert.labels['severity']}*" in text
    for heading in ("## Confirm", "## Causes", "## Now", "## Later", "## Escalate"):
        assert heading in text
    assert len(text.splitlines()) <= MOST_LINES


def test_the_index_lists_each_page_with_its_urgency() -> None:
    urgency: dict[str, set[str]] = {}
    for alert in alerts():
        urgency.setdefault(alert.name, set()).add(alert.labels["severity"])
    rows = re.findall(
        r"\| \[(\w+)\]\(([\w-]+)\.md\) \| ([a-z, ]+) \|", text_of(RUNBOOKS / "index.md")
    )
    assert {name: set(words.split(", ")) for name, _, words in rows} == urgency
    assert {page for _, page, _ in rows} == {page.stem for page in PAGES}


@every_page
def test_commands_are_those_of_the_program(page: Path) -> None:
    for line in COMMAND.findall(text_of(page)):
        command: click.Command = main
        for word in shlex.split(line)[1:]:
            if isinstance(command, click.Group) and not word.startswith("-"):
                command = command.commands[word]
            elif word.startswith("--"):
                assert word in _options(command), line


def _options(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.get_params(click.Context(command))
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


@every_page
def test_settings_are_settings(page: Path) -> None:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    known |= {f"{ENV_PREFIX}{name.upper()}_FILE" for name in SECRETS}
    assert set(VARIABLE.findall(text_of(page))) - known == set()


@every_page
def test_events_codes_and_series_are_words_of_the_program(page: Path) -> None:
    known = exposed() | {name.removesuffix("_bucket") for name in exposed()} | FOREIGN
    unknown = {
        word
        for word in WORD.findall(text_of(page))
        if word not in known and not re.search(rf"\b{word}\b", program())
    }
    assert unknown == set()


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    gone = [link for link in LINK.findall(text_of(page)) if not (page.parent / link).exists()]
    assert gone == []


@pytest.mark.parametrize("query", list(queries()))
def test_queries_read_what_the_gateway_exposes(query: str) -> None:
    assert metric_names(query) - exposed() - FOREIGN_SERIES == set()


@needs_promtool
def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(queries())]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}), "utf-8")
    promtool("check", "rules", path)
