"""Visible events as the older completions route has them: text alone."""

from collections.abc import Iterable, Mapping, Sequence

import orjson

from app.protocol.encode import DONE_EVENT, about_body, usage_body, with_about
from app.protocol.events import TextDelta, Usage, Visible
from app.protocol.request import Json


class TextEncoder:
    """`text_completion` chunks, in which a thought has no place, whatever its names."""

    def __init__(
        self,
        completion_id: str,
        created: int,
        model: str,
        *,
        n: int = 1,
        include_usage: bool,
        thought_names: Sequence[str] = (),
    ) -> None:
        self._envelope: dict[str, object] = {
            "id": completion_id,
            "object": "text_completion",
            "created": created,
            "model": model,
        }
        self._include_usage = include_usage
        self.about: Json | None = None

    def encode(self, events: Iterable[Visible]) -> bytes:
        return b"".join(
            self._chunk(event.choice, event.text)
            for event in events
            if isinstance(event, TextDelta)
        )

    def empty_delta(self) -> bytes:
        return self._chunk(0, "")

    def end(self, usage: Usage, finishes: Mapping[int, str]) -> bytes:
        chunks = [self._chunk(choice, "", reason) for choice, reason in sorted(finishes.items())]
        if chunks:
            chunks[-1] = with_about(chunks[-1], self.about)
        ends = b"".join(chunks)
        if not self._include_usage:
            return ends + DONE_EVENT
        body = self._envelope | {"choices": [], "usage": usage_body(usage)}
        return ends + b"data: " + orjson.dumps(body) + b"\n\n" + DONE_EVENT

    def _chunk(self, choice: int, text: str, reason: str | None = None) -> bytes:
        body = self._envelope | {"choices": [_choice(choice, text, reason)]}
        if self._include_usage:
            body["usage"] = None
        return b"data: " + orjson.dumps(body) + b"\n\n"


class TextFolder:
    """One `text_completion`."""

    def __init__(self, n: int = 1, thought_names: Sequence[str] = ()) -> None:
        self.about: Json | None = None
        self._texts: list[list[str]] = [[] for _ in range(n)]

    def feed(self, events: Iterable[Visible]) -> None:
        for event in events:
            if isinstance(event, TextDelta):
                self._texts[event.choice].append(event.text)

    def body(
        self,
        completion_id: str,
        created: int,
        model: str,
        usage: Usage,
        finishes: Mapping[int, str],
    ) -> bytes:
        return orjson.dumps(
            {
                "id": completion_id,
                "object": "text_completion",
                "created": created,
                "model": model,
                "choices": [
                    _choice(index, "".join(texts), finishes.get(index))
                    for index, texts in enumerate(self._texts)
                ],
                "usage": usage_body(usage),
                **about_body(self.about),
            }
        )


def _choice(index: int, text: str, reason: str | None) -> dict[str, object]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
