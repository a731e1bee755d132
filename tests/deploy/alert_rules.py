"""The rules for Prometheus that the repository ships, and what their queries name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RECORDING = PROMETHEUS / "recording.yaml"
ALERTS = PROMETHEUS / "alerts.yaml"
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"

# A query, a comparison, a number. `bool` belongs to a comparison within a query.
_FORM = re.compile(r"(?P<query>.+?)\s*(?P<comparison>[<>])\s*(?P<number>\d+(?:\.\d+)?)\s*", re.S)
_SET_OPERATOR = re.compile(r"\b(?:and|or|unless)\b")
_TEXT = re.compile(r'"[^"]*"')
_MATCHER = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_LABEL_LIST = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True, slots=True)
class Alert:
    """`labels` are those that tell alerts of one name apart, too."""

    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def case(self) -> str:
        """Of all alerts this one."""
        distinct = sorted(set(self.labels.items()) - {("severity", self.labels["severity"])})
        return " ".join([self.name, *(f"{name}={value}" for name, value in distinct)])

    @property
    def page(self) -> str:
        """The file name of its runbook, without the extension."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()


def alerts() -> list[Alert]:
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for rule in _rules(ALERTS)
    ]


def records() -> dict[str, str]:
    """The queries of the recording rules, by name."""
    return {rule["record"]: rule["expr"] for rule in _rules(RECORDING)}


def query_of(expr: str) -> str:
    """What an alert looks at, without the comparison and the number at its end. Raises ValueError
    where it has not that form."""
    found = _FORM.fullmatch(expr.strip())
    if found is None:
        raise ValueError("is no query with a comparison and a number at its end")
    query = found["query"]
    # `a or b > 1` compares only b: cut off, it would be another query.
    if _SET_OPERATOR.search(_outermost(query)):
        raise ValueError("compares only a part of its query: put parentheses around the rest")
    return query


def metric_names(query: str) -> set[str]:
    """The series and records that a query reads."""
    bare = _LABEL_LIST.sub("", _without(query, "{}"))
    return {name for name in _NAME.findall(_without(bare, "[]")) if name not in _WORDS}


def matchers(query: str) -> Iterator[tuple[str, str]]:
    """Each label that a query selects by, with its value or pattern."""
    yield from _MATCHER.findall(query)


def _rules(path: Path) -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
        yield from group["rules"]


def _outermost(query: str) -> str:
    """Without what stands in parentheses."""
    text, depth = "", 0
    for character in _TEXT.sub("", query):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            text += character
    if depth:
        raise ValueError("has parentheses that do not match")
    return text


def _without(query: str, brackets: str) -> str:
    opening, closing = map(re.escape, brackets)
    return re.sub(rf"{opening}[^{closing}]*{closing}", "", _TEXT.sub("", query))
