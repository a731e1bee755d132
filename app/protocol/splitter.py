"""Thought, answer and calls, told apart in the text of one choice.

The chat template opens `<think>` itself, so a worker without a reasoning parser sends a thought, a
closing tag and the answer; a thought that is cut off holds no tag at all. A worker with a parser
sends the thought in a field of its own, and errs in known cases. So nothing is believed: whatever
could be thought is hidden, and text that comes before any thought is held until it is known.
"""

from collections.abc import Callable
from enum import Enum, auto

from app.protocol.call_text import CallText, call_follows
from app.protocol.calls import CallGate
from app.protocol.engine_field import EngineField
from app.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta
from app.protocol.findings import Findings, Hidden
from app.protocol.rules import AnswerRules, Start
from app.protocol.tags import Kind, Tag, overlap, partial_tag, tags
from app.protocol.thought import QUOTES, ThoughtDepth
from app.protocol.tool_markup import parse_call

# Each tag copies what is left of a text: in a delta of megabytes that would take quadratic time.
SLICE_CHARACTERS = 4096
MAX_CLOSING_TAGS = 16  # of a call; all but the last one stand inside its arguments

Piece = TextDelta | ReasoningDelta | ToolCallDelta


class State(Enum):
    HELD = auto()  # a thought was asked for, and none has come
    THOUGHT = auto()
    ANSWER = auto()
    CALL = auto()
    AFTER_CALL = auto()  # the model does not speak behind a call; what comes is no answer


_FIRST = {Start.SPLIT: State.HELD, Start.THOUGHT: State.THOUGHT, Start.ANSWER: State.ANSWER}


class Splitter:
    """Text in; TextDelta (the answer), ReasoningDelta (the thought) and released calls out.

    What it holds back is bounded: the beginning of a tag, a call that is not whole, and text that
    came before any thought. `close()` leaves nothing held.
    """

    def __init__(
        self,
        choice: int,
        start: Start,
        rules: AnswerRules,
        gate: CallGate,
        findings: Findings,
    ) -> None:
        self._choice = choice
        self._rules = rules
        self._gate = gate
        self._findings = findings
        self._state = _FIRST[start]
        self._splits = start is Start.SPLIT
        self._depth = ThoughtDepth(False)
        self._quoted_thought = False  # a tag in quotation marks began it, in the answer
        self._field = EngineField(tags_are_text=rules.show_second_thought)
        self._tail = ""  # may still become a tag
        self.behind = ""  # the character before it
        self._skip_space = start is Start.ANSWER  # between a thought and its answer
        self._begun = False  # something of the answer was shown
        self._held: list[str] = []
        self._held_characters = 0
        self._call = CallText()
        self._hid_after_call = False
        self._back = State.ANSWER  # from where the call began
        self._out: list[Piece] = []

    @property
    def plain(self) -> bool:
        """Text without a `<` would go through as it is: it is answer, and nothing is pending."""
        return (
            self._begun
            and self._state is State.ANSWER
            and self._field.quiet
            and not (self._tail or self._skip_space)
        )

    @property
    def awaits_thought(self) -> bool:
        """White space of the engine's is no thought yet."""
        return self._state is State.HELD

    def feed(self, text: str) -> list[Piece]:
        for at in range(0, len(text), SLICE_CHARACTERS):
            self._split(text[at : at + SLICE_CHARACTERS])
        return self._take()

    def _split(self, text: str) -> None:
        text, self._tail = self._tail + text, ""
        while text:
            still_open = self._field.goes_on_in(text) if self._state is State.ANSWER else None
            if still_open is not None:
                self._findings.hide(Hidden.IN_ANSWER)
                self._think_anew(False)
                self._depth = still_open
            text = _STEPS[self._state](self, text)

    def thought_elsewhere(self, text: str) -> list[Piece]:
        """The engine sent thought in a field of its own. What of the text was held came before it:
        an engine that splits does not begin with the answer."""
        if self._state is State.HELD:
            self._hold(self._tail)
            self._tail = ""
            self._state = State.ANSWER
        self._hide_held()
        self._skip_space = self._skip_space or not self._begun
        self._field.feed(text)
        return self._take()

    def call_elsewhere(self) -> list[Piece]:
        """The engine's own parser found a call. Text that is held stays so until the end."""
        tail, self._tail = self._tail, ""
        match self._state:
            case State.CALL:
                self._gate.cut()
            case State.HELD:
                self._hold(tail)
            case State.ANSWER:
                self._show(tail)
            case _:
                self._think(tail)
        self._state = State.AFTER_CALL
        return self._take()

    def close(self, reason: str, *, verified: bool) -> list[Piece]:
        """The end. Text without any thought is the answer of a `verified` worker that came to its
        own end; cut off, it may be a thought."""
        tail, self._tail = self._tail, ""
        match self._state:
            case State.CALL:
                self._end_call(tail, reason)
            case State.HELD:
                self._hold(tail)
            case State.ANSWER if _is_call_tag(tail):
                self._findings.hide(Hidden.MARKUP)
            case State.ANSWER:
                self._show(tail)
            case _:
                self._think(tail)
        ended = reason == "stop" or (reason == "tool_calls" and self._gate.started)
        if verified and ended:
            text, self._held, self._skip_space = "".join(self._held), [], True
            self._in_answer(text, last=True)
        else:
            self._hide_held()
        return self._take()

    # -- one state each: text in, what is left of it for the next state out

    def _in_held(self, text: str) -> str:
        for tag in tags(text):
            if tag.kind is Kind.CLOSE or tag.kind is Kind.OPEN:
                self._hold(text[: tag.start])
                within = self._hide_held()
                if not within:
                    self._findings.hide(Hidden.BEFORE_THOUGHT)
                self._think_anew(False, begun=within)
                if tag.start:
                    self.behind = text[tag.start - 1]
                return text[tag.start :]
            if tag.kind is Kind.CALL and (called := call_follows(text, tag)) is not False:
                self._hold(text[: tag.start])
                return self._begin_call(text, tag) if called else self._wait(text, tag.start)
            if tag.kind is Kind.FUNCTION and self._rules.calls.offered:
                self._hold(text[: tag.start])
                self._begin_call(text, tag, bare=True)
                return text[tag.start :]
        keep = partial_tag(text)
        self._hold(text[: len(text) - keep])
        if self._held_characters > self._rules.hold_characters:
            self._think_anew(False, begun=self._hide_held())
        return self._wait(text, len(text) - keep)

    def _in_thought(self, text: str) -> str:
        done = 0
        for tag in tags(text):
            self._depth.pass_over(text[done : tag.start])
            behind = text[tag.start - 1] if tag.start else self.behind
            if tag.kind is Kind.OPEN:
                self._depth.opens(variant=tag.variant, behind=behind)
            elif tag.kind is Kind.CLOSE:
                if behind and behind in QUOTES and not self._quoted_thought:
                    if tag.end == len(text):  # what follows tells whether it is quoted
                        self._think(text[: tag.start])
                        return self._wait(text, tag.start)
                    if text[tag.end] == behind:
                        done = tag.end
                        continue
                self._depth.closes(variant=tag.variant)
                if not self._depth.open:
                    self._think(text[: tag.start])
                    self._answer_follows()
                    return text[tag.end :]
            elif tag.kind is Kind.CALL and self._rules.calls.offered:
                called = call_follows(text, tag)
                if called is not False:
                    self._think(text[: tag.start])
                    return self._begin_call(text, tag) if called else self._wait(text, tag.start)
            # A tag of another kind is text like any other here.
            done = tag.end if tag.kind in (Kind.OPEN, Kind.CLOSE) else tag.start
        keep = partial_tag(text[done:])
        self._depth.pass_over(text[done : len(text) - keep])
        self._think(text[: len(text) - keep])
        return self._wait(text, len(text) - keep)

    def _in_answer(self, text: str, *, last: bool = False) -> str:
        done = 0
        for tag in tags(text):
            self._show(text[done : tag.start])
            done = tag.start
            if tag.kind in (Kind.OPEN, Kind.CLOSE):
                if self._rules.show_second_thought and self._begun:
                    continue
                if tag.kind is Kind.OPEN:
                    self._findings.hide(Hidden.IN_ANSWER)
                    behind = text[tag.start - 1] if tag.start else self.behind
                    self._think_anew(tag.variant)
                    self._quoted_thought = behind != "" and behind in QUOTES
                    self.behind = ""
                    return text[tag.end :]
                self._drop_stray_close()
            elif tag.kind is Kind.CALL:
                called = False if last else call_follows(text, tag)
                if called is not False:
                    return self._begin_call(text, tag) if called else self._wait(text, tag.start)
                if not (self._begun or last) and self._splits:
                    # SGLang takes a call that is spoken of in the thought for the thought's end.
                    self._findings.hide(Hidden.IN_ANSWER)
                    self._think_anew(False)
                    return text[tag.end :]
                self._findings.hide(Hidden.MARKUP)
            elif tag.kind is Kind.FUNCTION and not last:
                if not self._rules.calls.offered:
                    continue
                self._begin_call(text, tag, bare=True)
                return text[tag.start :]
            else:
                self._findings.hide(Hidden.MARKUP)
            done = tag.end
        keep = 0 if last else partial_tag(text[done:])
        self._show(text[done : len(text) - keep])
        return self._wait(text, len(text) - keep)

    def _in_call(self, text: str) -> str:
        call = self._call
        at = text.find(call.closing)
        if at < 0:
            end = len(text) - overlap(text, call.closing)
            call.add(text[:end])
            if call.too_long:
                self._give_up_call()
            return self._wait(text, end)
        end = at + len(call.closing)
        call.add(text[:end])
        released = not call.too_long and self._release(call.closed())
        if not released and call.too_long:
            self._give_up_call()
        # Otherwise it stands inside an argument, or so it seems, and the call goes on.
        return text[end:]

    def _after_call(self, text: str) -> str:
        done = 0
        for tag in tags(text):
            if tag.kind is Kind.CALL:
                called = call_follows(text, tag)
                if called is not False:
                    self._hide_after_call(text[done : tag.start])
                    return self._begin_call(text, tag) if called else self._wait(text, tag.start)
            elif tag.kind is Kind.FUNCTION and self._rules.calls.offered:
                self._hide_after_call(text[done : tag.start])
                self._begin_call(text, tag, bare=True)
                return text[tag.start :]
            elif tag.kind is Kind.OTHER:
                self._hide_after_call(text[done : tag.start])
                done = tag.end
            elif tag.kind in (Kind.OPEN, Kind.CLOSE):  # then what was held may be thought, too
                self._hide_after_call(text[done : tag.start])
                done = tag.start
                self._hide_held()
        keep = partial_tag(text[done:])
        self._hide_after_call(text[done : len(text) - keep])
        return self._wait(text, len(text) - keep)

    # -- what the states share

    def _take(self) -> list[Piece]:
        out, self._out = self._out, []
        return out

    def _wait(self, text: str, at: int) -> str:
        """Keeps the rest until more has come."""
        if at:
            self.behind = text[at - 1]
        self._tail = text[at:]
        return ""

    def _think(self, text: str) -> None:
        if text:
            self._out.append(ReasoningDelta(self._choice, text))

    def _show(self, text: str) -> None:
        if self._skip_space:
            text = text.lstrip()
            self._skip_space = not text
        if text:
            self._begun = self._begun or not text.isspace()
            self._out.append(TextDelta(self._choice, text))

    def _think_anew(self, variant: bool, *, begun: bool = False) -> None:
        self._depth = ThoughtDepth(variant, fresh=not begun)
        self._quoted_thought = False
        self._state = State.THOUGHT

    def _answer_follows(self) -> None:
        self.behind = ""
        self._state = State.ANSWER
        self._skip_space = True

    def _drop_stray_close(self) -> None:
        self._findings.hide(Hidden.MARKUP)
        if self._begun:
            self._findings.shown_too_early += 1
        else:
            self._skip_space = True

    def _hold(self, text: str) -> None:
        if text:
            self._held.append(text)
            self._held_characters += len(text)

    def _hide_held(self) -> bool:
        """Whether there was anything to hide."""
        text, self._held, self._held_characters = "".join(self._held), [], 0
        if text and not text.isspace():
            self._findings.hide(Hidden.BEFORE_THOUGHT)
            self._think(text)
            return True
        return False

    def _hide_after_call(self, text: str) -> None:
        if text and not text.isspace() and not self._hid_after_call:  # once, however it was cut
            self._hid_after_call = True
            self._findings.hide(Hidden.AFTER_CALL)
        self._think(text)

    # -- calls

    def _begin_call(self, text: str, tag: Tag, *, bare: bool = False) -> str:
        self._back, self._state = self._state, State.CALL
        self._call = CallText(bare=bare)
        return text[tag.end :]

    def _release(self, markup: str) -> bool:
        """Whether it was a whole call; then the gate has decided what becomes of it."""
        if self._back is State.THOUGHT:
            called = parse_call(markup, self._rules.calls.offered)
            if called is not None and called.name not in self._rules.calls.offered:
                self._think(markup)  # spoken of in the thought
                self._state = State.THOUGHT
                return True
        deltas = self._gate.found(markup)
        if deltas is None:
            return False
        self._out += deltas
        self._state = State.AFTER_CALL
        return True

    def _give_up_call(self) -> None:
        self._gate.cut()
        self._think(self._call.text)
        self._state = State.AFTER_CALL

    def _end_call(self, tail: str, reason: str) -> None:
        """A model may leave out the last closing tag; a call that is whole without it is one."""
        self._call.add(tail)
        if not self._release(self._call.text):
            if self._back is State.THOUGHT:
                self._think(self._call.text)
            else:
                self._gate.cut(reason)


_STEPS: dict[State, Callable[[Splitter, str], str]] = {
    State.HELD: Splitter._in_held,
    State.THOUGHT: Splitter._in_thought,
    State.ANSWER: Splitter._in_answer,
    State.CALL: Splitter._in_call,
    State.AFTER_CALL: Splitter._after_call,
}


def _is_call_tag(tail: str) -> bool:
    return any(tag.kind is Kind.CALL for tag in tags(tail))
