"""A chat completion as asked for, validated and rebuilt from known fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SYSTEM_JOINT = "\n\n"  # between system texts
Json = dict[str, Any]  # a JSON object that we built ourselves, from known fields only


@dataclass(frozen=True, slots=True)
class SentThought:
    """The thought of an earlier answer, as its client sent it back: seals, or text.

    `message` is the index in `ChatRequest.messages`, `sent_as` the one that the client knows.
    """

    message: int
    sent_as: int
    seals: tuple[str, ...] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`messages` and `tools` hold only what the wire model names; `sampling` only what the client
    set. `body_bytes` is the size of the JSON text: no prompt has more tokens than that.

    `thoughts` stand beside the messages, not in them: whoever forgets them sends none. A request
    that is not a `chat` (the older route) has an answer with no place for a thought.

    `sent` is the JSON body as its client sent it, unchecked: for the audit log, and nothing else.
    """

    model: str
    messages: tuple[Json, ...]
    body_bytes: int
    chat: bool = True
    stream: bool = False
    include_usage: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Json, ...] = ()
    tool_choice: str | Json | None = None
    allowed_tools: frozenset[str] | None = None  # names, of `tools`; None: all of them
    parallel_tool_calls: bool | None = None
    response_format: Json | None = None
    reasoning_effort: str | None = None
    thoughts: tuple[SentThought, ...] = ()
    sent_as: tuple[int, ...] = ()  # of each message: its index as the client sent it
    # Several system texts, which `messages` has as one: with the index of each.
    system_parts: tuple[tuple[int, str], ...] = ()
    max_cold_prefill_tokens: int | None = None  # by a header, beside the key's own
    affinity_hint: str | None = None  # what the client calls its conversation
    annotate: bool = False  # the client wants to be told of domains in the body, too
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def param_of(self, message: int) -> str:
        """What a client calls the message of this index."""
        if not self.chat:
            return "prompt"
        return f"messages[{self.sent_as[message] if self.sent_as else message}]"

    @property
    def shown_tools(self) -> tuple[Json, ...]:
        """What the model is told of: the allowed ones."""
        if self.allowed_tools is None:
            return self.tools
        return tuple(tool for tool in self.tools if tool_name(tool) in self.allowed_tools)

    @property
    def callable_tools(self) -> tuple[Json, ...]:
        """What the model may call: none, the one that is named, or all that it is told of."""
        if self.tool_choice == "none":
            return ()
        if isinstance(self.tool_choice, dict):
            name = tool_name(self.tool_choice)
            return tuple(tool for tool in self.tools if tool_name(tool) == name)
        return self.shown_tools


def tool_name(tool: Json) -> str:
    """Of a tool, or of the choice of one."""
    name: str = tool["function"]["name"]
    return name
