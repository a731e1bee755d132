"""A client's view of a stream, stricter than any SDK: what SDKs forgive is a defect here."""

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

KEEP_ALIVE = b": keep-alive"


@dataclass
class Stream:
    """`chunks` are the JSON events in order; `error` is an error event's content."""

    chunks: list[Json] = field(default_factory=list)
    comments: int = 0
    error: Json | None = None
    done: bool = False

    @property
    def deltas(self) -> list[Json]:
        return [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk["choices"]]

    def text(self, choice: int = 0) -> str:
        return "".join(
            part["delta"].get("content") or ""
            for chunk in self.chunks
            for part in chunk["choices"]
            if part["index"] == choice
        )

    @property
    def finish_reasons(self) -> list[str]:
        """Those that came, of whatever choice."""
        return [
            part["finish_reason"]
            for chunk in self.chunks
            for part in chunk["choices"]
            if part["finish_reason"] is not None
        ]

    @property
    def roles(self) -> list[str]:
        return [delta["role"] for delta in self.deltas if "role" in delta]

    @property
    def usage(self) -> Json | None:
        return next((chunk["usage"] for chunk in self.chunks if chunk.get("usage")), None)

    @property
    def tool_calls(self) -> list[Json]:
        """As an SDK accumulates them: strings that come twice are concatenated."""
        calls: dict[int, Json] = {}
        for delta in self.deltas:
            for piece in delta.get("tool_calls", ()):
                call = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id", "")
                for name in ("name", "arguments"):
                    call[name] += piece["function"].get(name, "")
        return [calls[index] for index in sorted(calls)]


def read_stream(body: bytes, *, whole: bool = True) -> Stream:
    """Every block is `: keep-alive` or one `data:` line, and a whole stream ends in `[DONE]`."""
    stream = Stream()
    *blocks, rest = body.split(b"\n\n")
    assert rest == b"", f"an event without its end: {rest[:200]!r}"
    for block in blocks:
        assert not stream.done, f"after the end: {block[:200]!r}"
        if block == KEEP_ALIVE:
            stream.comments += 1
            continue
        assert block.startswith(b"data: "), f"neither data nor a keep-alive: {block[:200]!r}"
        assert b"\n" not in block
        assert b"\r" not in block
        if block == b"data: [DONE]":
            stream.done = True
            continue
        event = json.loads(block[6:])
        if "error" in event:
            assert stream.error is None
            stream.error = event["error"]
        else:
            assert stream.error is None, "a chunk after the error"
            stream.chunks.append(event)
    assert stream.done or not whole, "no [DONE] at the end"
    return stream
