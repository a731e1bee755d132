"""What an answer has to keep to: said by the request, and by the policy of its key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.request import Json

# 16,384 tokens of text, the model card's longest answer, at four characters a token.
HOLD_CHARACTERS = 64 * 1024


class Start(Enum):
    """Where a worker's text begins."""

    THOUGHT = auto()  # within the thought: nobody splits it off (separation `inline`)
    SPLIT = auto()  # the engine's parser splits the thought off (separation `parser`)
    ANSWER = auto()  # with the answer: there is no thought


@dataclass(frozen=True, slots=True)
class ToolRule:
    """Tools that a key may use: a glob of names, and for some arguments a pattern (`re`) that the
    whole value has to match, as text where it is a string and as JSON where it is not."""

    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallRules:
    """`offered` maps the names that may be called now to the JSON schemas of their arguments."""

    offered: Mapping[str, Json | None] = field(default_factory=dict)
    allowed: tuple[ToolRule, ...] | None = None  # None: every tool
    single: bool = False  # `parallel_tool_calls: false`
    thought_in_arguments: bool = False  # think tags may stand in them


@dataclass(frozen=True, slots=True)
class LoopRules:
    """Text that repeats itself at least `repeats` times in a row, and over so many characters, is
    a loop. An answer may be asked to repeat something; a thought has no reason to."""

    repeats: int = 4
    thought_characters: int = 2_000
    answer_characters: int = 8_000


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """`n` choices. `call_prefix` makes ids for tool calls whose worker gives none, so it is unique
    to the request."""

    n: int = 1
    stop: tuple[str, ...] = ()
    call_prefix: str = "call"
    calls: CallRules = CallRules()
    show_thought: bool = False
    keep_thought: bool = False  # for sealing it, going on after it, or keeping it on record
    show_second_thought: bool = False  # think tags in the answer are text
    max_thinking_tokens: int | None = None
    loops: LoopRules | None = LoopRules()
    hold_characters: int = HOLD_CHARACTERS
    filter: FilterRules | None = None
