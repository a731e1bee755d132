"""Visible events as the older completions route has them: text alone."""

from collections.abc import Iterable

import orjson

from app.protocol.answer import Visible
from app.protocol.encode import DONE_EVENT, usage_body
from app.protocol.events import Finish, TextDelta, Usage


class TextEncoder:
    """`text_completion` chunks."""

    def __init__(
        self, completion_id: str, created: int, model: str, *, n: int = 1, include_usage: bool
    ) -> None:
        self._envelope: dict[str, object] = {
            "id": completion_id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }
        self._include_usage = include_usage

    def encode(self, events: Iterable[Visible]) -> bytes:
        parts = [
            self._chunk(event.choice, event.text)
            if isinstance(event, TextDelta)
            else self._chunk(event.choice, "", event.reason)
            for event in events
            if isinstance(event, TextDelta | Finish)
        ]
        return b"".join(parts)

    def empty_delta(self) -> bytes:
        return self._chunk(0, "")

    def end(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return DONE_EVENT
        body = self._envelope | {"choices": [], "usage": usage_body(usage)}
        return b"data: " + orjson.dumps(body) + b"\n\n" + DONE_EVENT

    def _chunk(self, choice: int, text: str, reason: str | None = None) -> bytes:
        body = self._envelope | {"choices": [_choice(choice, text, reason)]}
        if self._include_usage:
            body["usage"] = None
        return b"data: " + orjson.dumps(body) + b"\n\n"


class TextFolder:
    """One `text_completion`."""

    def __init__(self, n: int = 1) -> None:
        self._texts: list[list[str]] = [[] for _ in range(n)]
        self._reasons: list[str | None] = [None] * n

    def feed(self, events: Iterable[Visible]) -> None:
        for event in events:
            if isinstance(event, TextDelta):
                self._texts[event.choice].append(event.text)
            elif isinstance(event, Finish):
                self._reasons[event.choice] = event.reason

    def body(self, completion_id: str, created: int, model: str, usage: Usage) -> bytes:
        choices = zip(self._texts, self._reasons, strict=True)
        return orjson.dumps(
            {
                "id": completion_id,
                "object": "text_completion",
                "created": created,
                "model": model,
                "choices": [
                    _choice(index, "".join(texts), reason)
                    for index, (texts, reason) in enumerate(choices)
                ],
                "usage": usage_body(usage),
            }
        )


def _choice(index: int, text: str, reason: str | None) -> dict[str, object]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
