"""Each alert is tried in both directions by the tests of promtool."""

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy.alert_rules import RULE_TESTS, Alert, alerts

CASES = [case for path in RULE_TESTS for case in yaml.safe_load(path.read_text("utf-8"))["tests"]]
LABEL = re.compile(r'([a-z_]+)\s*=\s*"([^"]*)"')


def looks() -> Iterator[tuple[dict[str, str], list[dict[str, str]]]]:
    """What each look at the alerts selects, and the labels of those that it shall find."""
    for case in CASES:
        for look in case["promql_expr_test"]:
            if look["expr"].startswith("ALERTS"):
                found = [dict(LABEL.findall(sample["labels"])) for sample in look["exp_samples"]]
                yield dict(LABEL.findall(look["expr"])), found


def concerns(alert: Alert, labels: dict[str, str]) -> bool:
    """Labels that both have are the same; nothing is said by one that is missing."""
    own = {"alertname": alert.name, **alert.labels}
    return all(labels.get(name, value) == value for name, value in own.items())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.case)
def test_an_alert_fires_in_a_test(alert: Alert) -> None:
    own = {"alertname": alert.name, "alertstate": "firing", **alert.labels}.items()
    assert any(own <= labels.items() for _, found in looks() for labels in found)


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.case)
def test_an_alert_stays_quiet_in_a_test_of_its_own(alert: Alert) -> None:
    """Not only where nothing fires at all: there it might look at a series that is not there."""
    assert any(
        found == [] and selected.get("alertname") == alert.name and concerns(alert, selected)
        for selected, found in looks()
    )


def test_all_alerts_together_stay_quiet_where_all_is_well() -> None:
    assert [found for selected, found in looks() if not selected and found] == []
    assert sum(not selected for selected, _ in looks()) >= 3
