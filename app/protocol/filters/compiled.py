"""A rule in the forms that a stream needs."""

import regex

from app.protocol.filters.rule import Action, Rule

# Behind an atomic match one character more has to come: then no longer match is possible. Where the
# text ends before that, `partial=True` says so.
_DECIDED = r"[\s\S]"
_NEVER = r"(?!)"


class CompiledRule:
    """`whole` is what the rule means. With `partial=True`, `decided` finds a match that no further
    text can change, or one that may still come; `undecided` finds only the latter."""

    def __init__(self, order: int, rule: Rule, action: Action) -> None:
        self.order = order
        self.rule = rule
        self.action = action
        self.whole: regex.Pattern[str] = regex.compile(rule.pattern)
        self.decided: regex.Pattern[str] = regex.compile(f"(?>{rule.pattern}){_DECIDED}")
        self.undecided: regex.Pattern[str] = regex.compile(f"(?>{rule.pattern}){_DECIDED}{_NEVER}")
        self.then: regex.Pattern[str] | None = (
            regex.compile(f"(?:{rule.then})*+") if rule.then else None
        )
