"""A chat completion as asked for, validated and rebuilt from known fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]  # a JSON object that we built ourselves, from known fields only


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`messages` and `tools` hold only what the wire model names; `sampling` only what the client
    set. `body_bytes` is the size of the JSON text: no prompt has more tokens than that."""

    model: str
    messages: tuple[Json, ...]
    body_bytes: int
    stream: bool = False
    include_usage: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Json, ...] = ()
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Json | None = None
    reasoning_effort: str | None = None
