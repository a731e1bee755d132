"""What rules find in one view, and from where on nothing is decided yet."""

from collections.abc import Iterable
from dataclasses import dataclass

from app.protocol.filters.compiled import CompiledRule
from app.protocol.filters.filter_rules import RuleSet
from app.protocol.filters.views import View

# In a text this long it pays to ask first which rules may have a match in it at all.
LONG_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class Match:
    """By index in its view."""

    compiled: CompiledRule
    start: int
    end: int


def scan(view: View, rules: RuleSet, *, final: bool) -> tuple[list[Match], int]:
    """The matches that are decided, and the index from which on others may begin.

    Of the matches only those before that index will be found in the same way whatever comes next.
    """
    text, start = view.text, view.scanned
    end = len(text)
    candidates: Iterable[CompiledRule] = rules.rules
    tail = start
    if end - start > LONG_CHARACTERS:
        candidates = rules.narrow(text)
        tail = max(start, end - rules.bound - 1)
    undecided = end
    if not view.resume:
        if final:
            if tail == start and rules.probe.look(text, start, final=True) is None:
                return [], end
        else:
            probed = rules.probe.look(text, tail, final=False)
            if probed is None or probed.partial:
                undecided = end if probed is None else probed.start()
                if tail == start or not candidates:
                    return [], undecided
                return _each(candidates, view, tail, undecided, final=final)
    if tail > start and not final:
        candidate_orders = {compiled.order for compiled in candidates}
        others = [c for c in rules.rules if c.order not in candidate_orders]
        _, undecided = _each(others, view, tail, end, final=False, only_tail=True)
    return _each(candidates, view, tail, undecided, final=final)


def _each(
    candidates: Iterable[CompiledRule],
    view: View,
    tail: int,
    undecided: int,
    *,
    final: bool,
    only_tail: bool = False,
) -> tuple[list[Match], int]:
    """Rule by rule. No match can be undecided that begins before `tail`."""
    text = view.text
    found: list[Match] = []
    for compiled in candidates:
        at = max(tail if only_tail else view.scanned, view.resume.get(compiled.order, 0))
        until = _undecided(compiled, text, max(at, tail), final=final)
        while not only_tail:
            match = compiled.whole.search(text, at, concurrent=True)
            if match is None or match.start() >= until:
                break
            start, at = match.span()
            if compiled.rule.valid is None or compiled.rule.valid(match[0]):
                found.append(Match(compiled, start, at))
                if at > until:
                    until = _undecided(compiled, text, max(at, tail), final=final)
            else:
                at = start + 1
        undecided = min(undecided, until)
    return found, undecided


def _undecided(compiled: CompiledRule, text: str, at: int, *, final: bool) -> int:
    if final:
        return len(text)
    match = compiled.undecided.search(text, at, partial=True)
    return len(text) if match is None else match.start()
