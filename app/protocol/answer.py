"""A worker's stream, read into what the client may see, and what it cost.

Bytes in, visible events out. What was hidden and why is noted; finish reasons and usage are kept
for the end.
"""

from collections.abc import Sequence

from app.protocol.choice import ChoiceReader
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
    Visible,
)
from app.protocol.filters.choice_filter import ChoiceFilter, SurfaceHit
from app.protocol.findings import Findings
from app.protocol.rules import AnswerRules, Start
from app.protocol.sse import DONE, SSEDecoder, SSEError


class AnswerReader:
    """The answer to one request.

    A worker that is `verified` was seen to split the thought off as its settings say: where it
    sends an answer without any thought, that is believed. After `close()`, `complete` tells whether
    every choice was finished: a stream without a finish reason failed, whatever else it looked
    like. `failure` says how the worker failed inside its stream; what it had said before is still
    shown, however its bytes were cut. It is for our log, not for clients.
    """

    def __init__(self, rules: AnswerRules, *, start: Start, verified: bool = True) -> None:
        self._sse = SSEDecoder()
        self._start = start
        self.findings = Findings()
        self.choices = [
            ChoiceReader(index, rules, self.findings, start, verified=verified)
            for index in range(rules.n)
        ]
        self._filters = (
            [ChoiceFilter(index, rules.filter) for index in range(rules.n)] if rules.filter else []
        )
        self._passed: list[Visible] = []  # by a choice, and not by its filter yet
        self._report: UsageReport | None = None
        self.deltas = 0  # of thought, text or calls: about one a token
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
        visible = self._visible(self._sse.close())
        self._stop_looking_on(visible)
        return visible

    @property
    def hits(self) -> list[SurfaceHit]:
        """What the filter found so far, by choice."""
        return [hit for filtered in self._filters for hit in filtered.hits]

    @property
    def held(self) -> bool:
        """Whether the filter holds text back."""
        return any(filtered.held for filtered in self._filters)

    @property
    def complete(self) -> bool:
        return all(choice.finish is not None for choice in self.choices)

    @property
    def finishes(self) -> dict[int, str]:
        """The finish reasons of the choices that have one."""
        return {
            index: choice.finish
            for index, choice in enumerate(self.choices)
            if choice.finish is not None
        }

    @property
    def stopped_here(self) -> bool:
        """Every choice ended, some by us: the worker may be cancelled."""
        return (
            self.complete
            and any(choice.stopped for choice in self.choices)
            and not any(filtered.looks_on for filtered in self._filters)
        )

    @property
    def disagrees(self) -> bool:
        """The engine splits the thought off, and we found something to hide in its answers."""
        found = self.findings
        return self._start is Start.SPLIT and bool(found.hidden or found.shown_too_early)

    def usage(self, prompt_tokens: int) -> Usage:
        """What the worker reported; else what we counted, with `prompt_tokens` as estimated."""
        thought = sum(choice.thought_deltas for choice in self.choices)
        if self._report is None:
            return Usage(prompt_tokens, self.deltas, min(thought, self.deltas))
        report = self._report
        reasoning = report.reasoning_tokens
        if reasoning is None:
            reasoning = min(thought, report.completion_tokens)
        return Usage(
            report.prompt_tokens,
            report.completion_tokens,
            reasoning,
            report.cached_tokens,
            exact=True,
        )

    def _visible(self, payloads: Sequence[bytes]) -> list[Visible]:
        visible: list[Visible] = []
        for payload in payloads:
            if self.done or self.failure is not None:
                break
            if payload == DONE:
                self.done = True
                self._stop_looking_on(visible)
                break
            try:
                events = decode_chunk(payload)
            except MalformedChunk as error:
                self.failure = f"malformed chunk: {error}"
                break
            for event in events:
                self._read(event, visible)
        for filtered in self._filters:
            filtered.flush(visible)
            if filtered.blocked:
                self.choices[filtered.choice].block()
        return visible

    def _read(self, event: Event, visible: list[Visible]) -> None:
        if isinstance(event, UsageReport):
            self._report = event
        elif isinstance(event, StreamFailed):
            self.failure = f"error event: {event.code}: {event.message}"
        elif 0 <= event.choice < len(self.choices):
            if not isinstance(event, Finish):
                self.deltas += 1
            choice = self.choices[event.choice]
            if self._filters:
                self._filter(choice, event, visible)
            else:
                choice.feed(event, visible)
        else:
            self.failure = f"choice {event.choice} of {len(self.choices)}"

    def _filter(
        self,
        choice: ChoiceReader,
        event: TextDelta | ReasoningDelta | ToolCallDelta | Finish,
        visible: list[Visible],
    ) -> None:
        filtered = self._filters[event.choice]
        if choice.finish is not None:
            if filtered.looks_on and isinstance(event, TextDelta):
                filtered.look_on(event.text, visible)
            return
        choice.feed(event, self._passed)
        for passed in self._passed:
            filtered.feed(passed, visible)
        self._passed.clear()
        self._after(choice, filtered, visible)

    @staticmethod
    def _after(choice: ChoiceReader, filtered: ChoiceFilter, visible: list[Visible]) -> None:
        """Where the choice has ended, so does its filter, in time."""
        if choice.finish is None:
            return
        if choice.behind:
            filtered.look_on(choice.behind, visible)
        else:
            filtered.close(visible)

    def _stop_looking_on(self, visible: list[Visible]) -> None:
        for filtered in self._filters:
            if filtered.looks_on:
                filtered.close(visible)
