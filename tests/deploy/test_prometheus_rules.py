"""The rules for Prometheus: that it takes them, and that they name what the gateway exposes."""

import re
from pathlib import Path

import pytest

from tests.deploy.alert_rules import (
    ALERTS,
    PROMETHEUS,
    RECORDING,
    ROOT,
    RULE_TESTS,
    Alert,
    alerts,
    matchers,
    metric_names,
    query_of,
    records,
)
from tests.deploy.promtool import exposed, needs_promtool, program, promtool

# Prometheus' own, of every target.
OF_PROMETHEUS = {"up"}
# Labels whose values are words of ours; the others hold numbers, or what an operator names.
OUR_WORDS = {"code", "outcome", "reason", "source", "place", "check"}
NAMED_PARTS = re.compile(r"^[a-z]+:[a-z_]+:[a-z0-9_]+$")


@needs_promtool
def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", RECORDING, ALERTS)
    promtool("check", "config", PROMETHEUS / "prometheus.yaml")


@needs_promtool
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_on_what_is_bad_and_on_nothing_else(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.case)
def test_an_alert_is_a_query_a_comparison_and_a_number(alert: Alert) -> None:
    query_of(alert.expr)


@pytest.mark.parametrize(
    ("expr", "query"),
    [
        ("sum(rate(a[5m])) > 1", "sum(rate(a[5m]))"),
        ("(a or b) < 0.5", "(a or b)"),
        ("a * (b > bool 14.4) > 14.4", "a * (b > bool 14.4)"),
    ],
)
def test_the_query_of_an_alert_is_what_stands_before_the_comparison(expr: str, query: str) -> None:
    assert query_of(expr) == query


@pytest.mark.parametrize("expr", ["a or b > 1", "a > 1 and b", "absent(a)", "(a > 1", "1 > a"])
def test_an_expression_of_another_form_is_told_apart(expr: str) -> None:
    with pytest.raises(ValueError, match=r"compares only|is no query|do not match"):
        query_of(expr)


def test_rules_name_only_what_the_gateway_exposes() -> None:
    known = exposed() | OF_PROMETHEUS | set(records())
    queries = {**records(), **{alert.case: alert.expr for alert in alerts()}}
    unknown = {rule: metric_names(query) - known for rule, query in queries.items()}
    assert {rule: names for rule, names in unknown.items() if names} == {}


def test_rules_select_by_words_that_the_program_uses() -> None:
    """A code that is spelt otherwise is counted by nobody, and no alert fires."""
    queries = [*records().values(), *(alert.expr for alert in alerts())]
    words = {
        word
        for query in queries
        for label, value in matchers(query)
        if label in OUR_WORDS
        for word in value.split("|")
    }
    assert {word for word in words if f'"{word}"' not in program()} == set()


def test_records_are_named_by_level_metric_and_operations() -> None:
    assert [name for name in records() if not NAMED_PARTS.match(name)] == []


def test_every_record_is_used() -> None:
    boards = (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    queries = [*records().values(), *(alert.expr for alert in alerts())]
    used = set().union(*map(metric_names, queries))
    shown = "".join(path.read_text("utf-8") for path in boards)
    assert {name for name in records() if name not in used and name not in shown} == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.case)
def test_an_alert_says_how_urgent_it_is_and_what_is_wrong(alert: Alert) -> None:
    assert alert.name.startswith("Gateway")
    assert alert.labels["severity"] in ("page", "ticket")
    assert set(alert.annotations) == {"summary", "description", "runbook_url"}
    assert all(alert.annotations.values())


def test_few_alerts_wake_somebody() -> None:
    """More than a handful of reasons to get up, and nobody reads which it is."""
    pages = {alert.name for alert in alerts() if alert.labels["severity"] == "page"}
    assert len(pages) <= 8
