"""One choice of an answer, as its client may have it."""

from app.protocol.calls import CallGate
from app.protocol.events import (
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Visible,
)
from app.protocol.findings import Findings, Stopped
from app.protocol.repetition import LoopDetector
from app.protocol.rules import AnswerRules, Start
from app.protocol.splitter import Piece, Splitter
from app.protocol.stop import StopMatcher

# A delta is at least one token, and a token is hardly ever longer than this: either way we count
# no more tokens than there are.
MAX_TOKEN_CHARACTERS = 16
CONTENT_FILTER = "content_filter"  # the finish reason
# Over the quota, before we step in: the engine that keeps to it closes the thought itself.
QUOTA_SLACK_TOKENS = 16


class ChoiceReader:
    """A worker's events of one choice in; visible ones out: the thought told apart, calls checked,
    stop sequences applied, loops and thoughts without end cut off."""

    def __init__(
        self, index: int, rules: AnswerRules, findings: Findings, start: Start, *, verified: bool
    ) -> None:
        self._findings = findings
        self._verified = verified
        self._index = index
        self._show_thought = rules.show_thought
        self._gate = CallGate(index, rules.calls, findings, rules.call_prefix)
        self._splitter = Splitter(index, start, rules, self._gate, findings)
        self._stop = StopMatcher(rules.stop) if rules.stop else None
        self._thought: list[str] | None = [] if rules.keep_thought else None
        self._thought_characters = 0
        self._most_thinking = rules.max_thinking_tokens
        loops = rules.loops
        self._thought_loops = self._answer_loops = None
        if loops is not None:
            self._thought_loops = LoopDetector(
                repeats=loops.repeats, characters=loops.thought_characters
            )
            self._answer_loops = LoopDetector(
                repeats=loops.repeats, characters=loops.answer_characters
            )
        self.thought_deltas = 0
        self.finish: str | None = None  # its reason, once finished
        self.stopped = False  # by us, before the worker ended it
        self.answered = False  # something other than white space was shown, or a call

    @property
    def thought(self) -> str:
        """All that was hidden as thought, where the rules say that it is kept."""
        return "".join(self._thought or ())

    @property
    def behind(self) -> str:
        """What came from the client's stop sequence on, where that has ended the choice."""
        return self._stop.behind if self._stop is not None else ""

    @property
    def gate(self) -> CallGate:
        return self._gate

    def feed(
        self, event: TextDelta | ReasoningDelta | ToolCallDelta | Finish, out: list[Visible]
    ) -> None:
        if self.finish is not None:
            return
        if isinstance(event, ReasoningDelta):
            if self._splitter.awaits_thought:
                event = ReasoningDelta(event.choice, event.text.lstrip())
            if event.text:
                self._pass(self._splitter.thought_elsewhere(event.text), out)
                self._think(event, out)
        elif isinstance(event, TextDelta):
            if self._splitter.plain and "<" not in event.text:  # the way of nearly every token
                self._splitter.behind = event.text[-1:]
                self._show(event, out)
            else:
                self._pass(self._splitter.feed(event.text), out)
        elif isinstance(event, ToolCallDelta):
            self._pass(self._splitter.call_elsewhere(), out)
            self._pass(self._gate.feed(event), out)
        else:
            self._end(event.reason, out)

    def _pass(self, pieces: "list[Piece] | list[ToolCallDelta]", out: list[Visible]) -> None:
        for piece in pieces:
            if self.finish is not None:
                return
            if isinstance(piece, TextDelta):
                self._show(piece, out)
            elif isinstance(piece, ReasoningDelta):
                self._think(piece, out)
            else:
                self.answered = True
                out.append(piece)

    def _think(self, delta: ReasoningDelta, out: list[Visible]) -> None:
        text = delta.text
        self.thought_deltas += 1
        self._thought_characters += len(text)
        if self._thought is not None:
            self._thought.append(text)
        if self._show_thought:
            out.append(delta)
        if self._thought_loops is not None and self._thought_loops.feed(text):
            self._cut_off(Stopped.LOOP_IN_THOUGHT, out)
        elif self._most_thinking is not None:
            tokens = max(self.thought_deltas, self._thought_characters // MAX_TOKEN_CHARACTERS)
            if tokens > self._most_thinking + QUOTA_SLACK_TOKENS:
                self._cut_off(Stopped.THINKING_QUOTA, out)

    def _show(self, delta: TextDelta, out: list[Visible]) -> None:
        text = delta.text if self._stop is None else self._stop.feed(delta.text)
        if text:
            self.answered = self.answered or not text.isspace()
            out.append(delta if text is delta.text else TextDelta(self._index, text))
        if self._stop is not None and self._stop.matched:
            self.finish, self.stopped = "stop", True
        elif self._answer_loops is not None and self._answer_loops.feed(delta.text):
            self._cut_off(Stopped.LOOP_IN_ANSWER, out)

    def block(self) -> None:
        """What it was to show may not be shown: this is its end."""
        self._findings.stopped = self._findings.stopped or Stopped.FILTERED
        self.finish, self.stopped = CONTENT_FILTER, True

    def _cut_off(self, why: Stopped, out: list[Visible]) -> None:
        """A call that was whole before stands."""
        self._findings.stopped = self._findings.stopped or why
        self._pass(self._gate.close("length"), out)
        self.finish, self.stopped = "tool_calls" if self._gate.released else "length", True

    def _end(self, reason: str, out: list[Visible]) -> None:
        self._pass(self._splitter.close(reason, verified=self._verified), out)
        if self.finish is not None:
            return
        self._pass(self._gate.close(reason), out)
        if self._stop is not None and (rest := self._stop.close()):
            self.answered = self.answered or not rest.isspace()
            out.append(TextDelta(self._index, rest))
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self._gate.released else "stop"
        self.finish = reason
