"""A worker's bytes, read through to what a client gets: as a stream, and in one piece."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.protocol.answer import AnswerReader
from app.protocol.encode import ChatEncoder, ChatFolder
from app.protocol.events import Usage
from app.protocol.findings import Findings
from app.protocol.rules import AnswerRules, Start
from tests.support.sse_events import read_stream

Json = dict[str, Any]

COMPLETION_ID, MODEL = "chatcmpl-1", "qwythos"
PROMPT_TOKENS = 99  # what the gateway would have estimated
THOUGHT_NAMES = ("reasoning", "reasoning_content")


@dataclass
class Message:
    """One choice as a client has it in the end. `calls` are `(id, name, arguments)`."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def texts(self) -> str:
        """All that is shown of the answer, but not its thought."""
        calls = "\n".join("\n".join(call) for call in self.calls)
        return f"{self.content}\n{calls}"


@dataclass(frozen=True)
class Seen:
    """`sent` is all that went to the client, streamed and in one piece."""

    messages: list[Message]
    sent: bytes
    findings: Findings
    usage: Usage
    failure: str | None


def read(
    pieces: Iterable[bytes], rules: AnswerRules, *, start: Start, verified: bool = True
) -> Seen:
    """Reads to the end, and checks that the folded answer is the streamed one, joined."""
    thought_names = THOUGHT_NAMES if rules.show_thought else ()
    reader = AnswerReader(rules, start=start, verified=verified)
    encoder = ChatEncoder(
        COMPLETION_ID, 1, MODEL, n=rules.n, include_usage=True, thought_names=thought_names
    )
    folder = ChatFolder(rules.n, thought_names)
    streamed = b""
    for events in map(reader.feed, pieces):
        streamed += encoder.encode(events)
        folder.feed(events)
    events = reader.close()
    streamed += encoder.encode(events)
    folder.feed(events)
    usage = reader.usage(PROMPT_TOKENS)
    streamed += encoder.end(usage, reader.finishes)
    folded = folder.body(COMPLETION_ID, 1, MODEL, usage, reader.finishes)
    messages = joined(read_stream(streamed).chunks, rules.n, thought_names)
    assert messages == whole(folded, thought_names)
    return Seen(messages, streamed + folded, reader.findings, usage, reader.failure)


def joined(chunks: Iterable[Json], n: int, thought_names: Sequence[str]) -> list[Message]:
    """As an SDK joins them; what it would forgive is refused here."""
    messages = [Message() for _ in range(n)]
    roles = [0] * n
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        message, delta = messages[choice["index"]], choice["delta"]
        assert message.finish_reason is None, "a delta after the end"
        assert choice["logprobs"] is None
        message.finish_reason = choice["finish_reason"]
        roles[choice["index"]] += "role" in delta
        assert roles[choice["index"]] == 1 or not delta, "a delta before the role, or two roles"
        message.content += delta.get("content") or ""
        thoughts = {delta.get(name) or "" for name in thought_names} or {""}
        assert len(thoughts) == 1
        message.reasoning += thoughts.pop()
        for piece in delta.get("tool_calls", ()):
            _join_call(message.calls, piece)
        assert delta.keys() <= {"role", "content", "refusal", "tool_calls", *thought_names}
    return messages


def whole(folded: bytes, thought_names: Sequence[str]) -> list[Message]:
    messages = []
    for choice in orjson.loads(folded)["choices"]:
        message = choice["message"]
        assert message["content"] is not None or message["tool_calls"]
        thoughts = {message.get(name) or "" for name in thought_names} or {""}
        assert len(thoughts) == 1
        calls = [
            (call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls", ())
        ]
        messages.append(
            Message(message["content"] or "", thoughts.pop(), calls, choice["finish_reason"])
        )
    return messages


def _join_call(calls: list[tuple[str, str, str]], piece: Json) -> None:
    function = piece["function"]
    if piece["index"] == len(calls):
        assert piece["id"]
        assert function["name"]
        calls.append((piece["id"], function["name"], function["arguments"]))
    else:
        assert piece["index"] == len(calls) - 1, "calls come one after the other"
        assert "id" not in piece
        assert "name" not in function
        call_id, name, arguments = calls[-1]
        calls[-1] = (call_id, name, arguments + function["arguments"])
