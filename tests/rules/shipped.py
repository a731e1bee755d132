"""The packs that ship, read without the loader: what a rule means is what `regex` says of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import regex
import yaml

from app.protocol.filters.pattern import inspect
from app.protocol.filters.rule import Rule
from app.rules.validators import VALIDATORS

PACKS = ("control", "leakage", "personal-data", "secrets")
EXAMPLES = Path(__file__).parent / "examples"
BREAK = "{}"  # keeps an example from looking like a secret to whoever scans the repository

Span = tuple[int, int]


def document(name: str) -> dict[str, Any]:
    text = resources.files("app.rules").joinpath("packs", f"{name}.yaml").read_text("utf-8")
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


def shipped_rules() -> dict[str, Rule]:
    """By full id."""
    return {rule.id: rule for pack in PACKS for rule in _rules(pack)}


def _rules(pack: str) -> Iterator[Rule]:
    for entry in document(pack)["rules"]:
        shape = inspect(entry["pattern"])
        yield Rule(
            id=f"{pack}.{entry['id']}",
            pattern=entry["pattern"],
            bound=shape.bound,
            behind=shape.behind,
            firsts=shape.firsts,
            valid=VALIDATORS[entry["validator"]] if "validator" in entry else None,
            then=entry.get("then"),
            replacement=entry.get("replacement", f"[{entry['id']}]"),
        )


class Finder:
    """All that one rule would cut out of a whole text, what `then` adds included."""

    def __init__(self, rule: Rule) -> None:
        self._pattern = regex.compile(rule.pattern)
        self._valid = rule.valid or bool
        self._then = regex.compile(f"(?:{rule.then})*") if rule.then else None

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        at = 0
        while (match := self._pattern.search(text, at)) is not None:
            if not self._valid(match[0]):
                at = match.start() + 1
                continue
            end = match.end() if self._then is None else self._then.match(text, match.end()).end()
            found.append((match.start(), end))
            at = end
        return found


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and what of it a rule is to cut."""

    rule: str
    text: str
    spans: tuple[Span, ...]

    def masked(self, replacement: str) -> str:
        parts = []
        at = 0
        for start, end in self.spans:
            parts += [self.text[at:start], replacement]
            at = end
        return "".join([*parts, self.text[at:]])


def examples() -> dict[str, list[Example]]:
    """By full id. A negative has no spans."""
    found: dict[str, list[Example]] = {}
    for pack in PACKS:
        loaded = yaml.safe_load((EXAMPLES / f"{pack}.yaml").read_text("utf-8"))
        for rule_id, texts in loaded.items():
            found[f"{pack}.{rule_id}"] = list(_examples(f"{pack}.{rule_id}", texts))
    return found


def _examples(rule_id: str, texts: Mapping[str, list[str]]) -> Iterator[Example]:
    assert set(texts) == {"positives", "negatives"}
    for kind, marked_texts in texts.items():
        for marked in marked_texts:
            text, spans = _unmark(marked.replace(BREAK, ""))
            assert bool(spans) == (kind == "positives"), marked
            yield Example(rule_id, text, tuple(spans))


def _unmark(marked: str) -> tuple[str, list[Span]]:
    text = ""
    spans: list[Span] = []
    for part in marked.split("«"):
        inside, closed, behind = part.partition("»")
        if closed:
            spans.append((len(text), len(text) + len(inside)))
        text += inside + behind
    return text, spans
