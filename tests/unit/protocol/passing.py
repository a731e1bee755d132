"""A gate, and what it let through."""

from typing import Any

from app.protocol.calls import (
    CallGate,
)
from app.protocol.events import ToolCallDelta
from app.protocol.findings import CallRefusal, Findings
from app.protocol.rules import CallRules

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
OFFERED = {"weather": WEATHER, "now": None}
OSLO = '{"city": "Oslo"}'
XML = "\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n"


class Passed:
    """A gate, what it was given, and what it let through: `calls` are (id, name, arguments)."""

    def __init__(self, offered: Any = None, **rules: Any) -> None:
        self.findings = Findings()
        offered = OFFERED if offered is None else offered
        self.gate = CallGate(2, CallRules(offered, **rules), self.findings, "call_x")
        self.deltas: list[ToolCallDelta] = []

    def engine(
        self, arguments: str, name: str | None = "weather", index: int = 0, id: str | None = None
    ) -> "Passed":
        self.deltas += self.gate.feed(ToolCallDelta(2, index, arguments, id, name))
        return self

    def text(self, markup: str) -> "Passed":
        found = self.gate.found(markup)
        assert found is not None
        self.deltas += found
        return self

    def end(self, reason: str = "tool_calls") -> "Passed":
        self.deltas += self.gate.close(reason)
        return self

    @property
    def calls(self) -> list[tuple[str | None, str | None, str]]:
        heads = {delta.index: delta for delta in self.deltas if delta.name is not None}
        return [
            (
                heads[at].id,
                heads[at].name,
                "".join(d.arguments for d in self.deltas if d.index == at),
            )
            for at in sorted(heads)
        ]

    @property
    def reasons(self) -> list[CallRefusal]:
        return [refused.reason for refused in self.findings.refused_calls]


def refused(arguments: str, reason: str = "tool_calls", **rules: Any) -> list[CallRefusal]:
    """Why a call of `weather` was, having made sure that nothing of it came through."""
    passed = Passed(**rules).engine(arguments).end(reason)
    assert bool(passed.reasons) == (passed.deltas == [])
    return passed.reasons
