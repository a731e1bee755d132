"""A worker's stream, read into what the client may see, and what it cost.

Bytes in, visible events out: TextDelta, ToolCallDelta and Finish, each choice finished once. The
thought is counted and dropped here; usage is kept here.
"""

from collections.abc import Iterator, Sequence

from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from app.protocol.sse import DONE, SSEDecoder, SSEError
from app.protocol.stop import StopMatcher
from app.protocol.think import ThinkRedactor

Visible = TextDelta | ToolCallDelta | Finish


class AnswerReader:
    """The answer to one request of `n` choices.

    `inside` says that the text starts within the thought (separation `inline`); `call_prefix` makes
    ids for tool calls whose worker gives none, so it is unique to the request. After `close()`,
    `complete` tells whether every choice was finished: a stream without a finish reason failed,
    whatever else it looked like. `failure` says how the worker failed inside its stream; what it
    had said before is still shown, however its bytes were cut. It is for our log, not for clients.
    """

    def __init__(
        self, *, inside: bool, stop: Sequence[str] = (), n: int = 1, call_prefix: str = "call"
    ) -> None:
        self._sse = SSEDecoder()
        self._choices = [
            _Choice(index, f"{call_prefix}_{index}", inside=inside, stop=stop) for index in range(n)
        ]
        self._report: UsageReport | None = None
        self.deltas = 0  # of thought, text or calls: about one a token
        self._reasoning_deltas = 0
        self.done = False
        self.failure: str | None = None

    def feed(self, data: bytes) -> list[Visible]:
        """The visible events of what has arrived."""
        try:
            payloads = self._sse.feed(data)
        except SSEError as error:
            self.failure = str(error)
            return []
        return self._visible(payloads)

    def close(self) -> list[Visible]:
        """The rest, at the end of the worker's bytes."""
        return self._visible(self._sse.close())

    @property
    def complete(self) -> bool:
        return all(choice.finished for choice in self._choices)

    @property
    def stopped_here(self) -> bool:
        """Every choice ended, some by our stop sequences: the worker may be cancelled."""
        return self.complete and any(choice.stopped for choice in self._choices)

    def usage(self, prompt_tokens: int) -> Usage:
        """What the worker reported; else what we counted, with `prompt_tokens` as estimated."""
        if self._report is None:
            return Usage(prompt_tokens, self.deltas, self._reasoning_deltas)
        report = self._report
        reasoning = report.reasoning_tokens
        if reasoning is None:
            reasoning = min(self._reasoning_deltas, report.completion_tokens)
        return Usage(
            report.prompt_tokens,
            report.completion_tokens,
            reasoning,
            report.cached_tokens,
            exact=True,
        )

    def _visible(self, payloads: list[bytes]) -> list[Visible]:
        visible: list[Visible] = []
        for payload in payloads:
            if self.done or self.failure is not None:
                break
            if payload == DONE:
                self.done = True
                break
            try:
                events = decode_chunk(payload)
            except MalformedChunk as error:
                self.failure = f"malformed chunk: {error}"
                break
            for event in events:
                self._read(event, visible)
        return visible

    def _read(self, event: Event, visible: list[Visible]) -> None:
        if isinstance(event, UsageReport):
            self._report = event
        elif isinstance(event, StreamFailed):
            self.failure = f"error event: {event.code}: {event.message}"
        elif 0 <= event.choice < len(self._choices):
            self._split(event, visible)
        else:
            self.failure = f"choice {event.choice} of {len(self._choices)}"

    def _split(
        self, event: TextDelta | ReasoningDelta | ToolCallDelta | Finish, visible: list[Visible]
    ) -> None:
        if not isinstance(event, Finish):
            self.deltas += 1
        for split in self._choices[event.choice].feed(event):
            if isinstance(split, ReasoningDelta):
                self._reasoning_deltas += 1
            else:
                visible.append(split)


class _Choice:
    """One choice: thought dropped, stop sequences applied, tool-call deltas as OpenAI has them."""

    def __init__(self, index: int, call_prefix: str, *, inside: bool, stop: Sequence[str]) -> None:
        self._index = index
        self._call_prefix = call_prefix
        self._redactor = ThinkRedactor(index, inside=inside)
        self._stop = StopMatcher(stop) if stop else None
        self._calls: set[int] = set()
        self.finished = False
        self.stopped = False

    def feed(self, event: Event) -> Iterator[Visible | ReasoningDelta]:
        if self.finished:
            return
        if isinstance(event, TextDelta) and self._calls:
            # An engine that finds a call inside the thought takes the rest of it for text.
            yield ReasoningDelta(self._index, event.text)
        elif isinstance(event, TextDelta):
            yield from self._text(self._redactor.feed(event))
        elif isinstance(event, ReasoningDelta):
            self._redactor.thought_elsewhere()
            yield event
        elif isinstance(event, ToolCallDelta):
            yield self._call(event)
        elif isinstance(event, Finish):
            yield from self._end(event)

    def _text(
        self, events: Iterator[TextDelta | ReasoningDelta]
    ) -> Iterator[Visible | ReasoningDelta]:
        for event in events:
            if self._stop is None or isinstance(event, ReasoningDelta):
                yield event
                continue
            shown = self._stop.feed(event.text)
            if shown:
                yield TextDelta(self._index, shown)
            if self._stop.matched:
                self.finished = self.stopped = True
                yield Finish(self._index, "stop")
                return

    def _call(self, event: ToolCallDelta) -> ToolCallDelta:
        """`id` and `name` once: SDKs concatenate what comes twice."""
        if event.index in self._calls:
            return ToolCallDelta(self._index, event.index, event.arguments)
        self._calls.add(event.index)
        call_id = event.id or f"{self._call_prefix}_{event.index}"
        return ToolCallDelta(self._index, event.index, event.arguments, call_id, event.name or "")

    def _end(self, event: Finish) -> Iterator[Visible | ReasoningDelta]:
        yield from self._text(self._redactor.close())
        if self.finished:
            return
        if self._stop is not None and (rest := self._stop.close()):
            yield TextDelta(self._index, rest)
        self.finished = True
        reason = event.reason
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._calls else "stop"
        yield Finish(self._index, reason)
