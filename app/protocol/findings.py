"""What was kept from a client in one answer, and why: counted and named, never quoted."""

from dataclasses import dataclass, field
from enum import StrEnum

MAX_REFUSED_CALLS = 32  # of one answer; a model that calls without end has no more to tell


class Hidden(StrEnum):
    """Where hidden text would have reached a client, had the worker's own split been believed."""

    BEFORE_THOUGHT = "before_thought"  # text ahead of the thought, where a thought was asked for
    IN_ANSWER = "in_answer"  # a thought after the answer had begun
    AFTER_CALL = "after_call"  # text behind a tool call
    IN_ARGUMENTS = "in_arguments"  # a thought inside the arguments of a call
    MARKUP = "markup"  # tags and calls left in the text


class CallRefusal(StrEnum):
    """Why a tool call of the model did not reach the client."""

    NOT_OFFERED = "not_offered"  # by the request; also where `tool_choice` forbids it
    NOT_ALLOWED = "not_allowed"  # to this key, by name or by argument
    ONE_TOO_MANY = "one_too_many"  # with `parallel_tool_calls: false`
    CUT = "cut"  # by the end of the answer
    NOT_JSON = "not_json"  # arguments that are no JSON object
    SCHEMA = "schema"  # arguments that are not what the tool takes
    THOUGHT = "thought"  # a thought among the arguments
    TOO_LONG = "too_long"

    @property
    def broken(self) -> bool:
        """The model tried what it may do and failed: another try may succeed."""
        return self in _BROKEN


_BROKEN = frozenset(
    {CallRefusal.NOT_JSON, CallRefusal.SCHEMA, CallRefusal.THOUGHT, CallRefusal.TOO_LONG}
)


class Stopped(StrEnum):
    """Why we ended an answer before the worker did."""

    LOOP_IN_THOUGHT = "loop_in_thought"
    LOOP_IN_ANSWER = "loop_in_answer"
    THINKING_QUOTA = "thinking_quota"
    FILTERED = "filtered"  # a rule of the output filter blocks


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """`name` is the tool's, where it is written as one."""

    name: str
    reason: CallRefusal


@dataclass(slots=True)
class Findings:
    """Of one answer with all of its choices."""

    hidden: dict[Hidden, int] = field(default_factory=dict)  # how many times
    refused_calls: list[RefusedCall] = field(default_factory=list)
    stopped: Stopped | None = None
    # A closing tag came after text had been shown: what was shown may have been thought.
    shown_too_early: int = 0

    def hide(self, where: Hidden) -> None:
        self.hidden[where] = self.hidden.get(where, 0) + 1

    def refuse(self, name: str, reason: CallRefusal) -> None:
        if len(self.refused_calls) < MAX_REFUSED_CALLS:
            self.refused_calls.append(RefusedCall(name, reason))
