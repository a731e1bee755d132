"""What is kept of one request: who asked, what was asked, what was answered, how it ended.

Nothing is given to anybody before it is on disk that it was: a worker is asked after the intent,
the first output leaves after the body, the end after the outcome.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from app.audit.content.answers import answer_content
from app.audit.content.redaction import Redaction
from app.audit.content.request import RequestContent, content_of
from app.audit.recorder import Recorder
from app.audit.records import AuditIntent, AuditLevel, AuditOutcome
from app.audit.running_answer import RunningAnswer, Thoughts
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.log import AuditUnavailable, Written, has_failed
from app.audit.spool.payloads import BodyPayload, encode_body, encode_intent, encode_outcome
from app.protocol.events import Visible
from app.protocol.request import ChatRequest

# Larger bodies are taken apart in a thread while the worker reads the prompt: the loop has others
# to serve. Smaller ones share the intent's way to the disk. Short messages cost 10 us each, however
# few bytes they are; rules to mask by cost a millisecond for 4 KiB.
INLINE_BODY_BYTES = 64 * 1024
INLINE_MESSAGES = 200
INLINE_MASKED_BYTES = 4 * 1024

Content = dict[str, Any]  # as in AuditOutcome


class Recording:
    """`begin`, then `said` for each piece of the answer, then `end`; or `end` alone, for a request
    that came to no worker. `end` may be called from another task than the rest, once that is over:
    all that it needs is here.

    Of a request whose text is `request`, where that is to be kept at its level, as are the
    `thoughts`. `may_go_on`: it is served even where it cannot be recorded.
    """

    def __init__(
        self,
        recorder: Recorder,
        intent: AuditIntent,
        request: ChatRequest | None,
        *,
        thoughts: Thoughts | None = None,
        may_go_on: bool = False,
    ) -> None:
        self._recorder = recorder
        self._spool = recorder.spool
        self._intent = intent
        self._request = None if intent.level is AuditLevel.METADATA else request
        self._thoughts = thoughts if intent.level is AuditLevel.FULL_AND_REASONING else None
        self._may_go_on = may_go_on
        self._told = False  # that it goes on although it cannot be recorded
        self._begun: Written | None = None  # the intent, on its way or on disk
        self._is_begun = False  # the intent was on disk before anything else
        self._content: Content | None = None  # once it is on its way with the intent, or on disk
        self._body: asyncio.Task[None] | None = None  # while it is under way
        self._answer: RunningAnswer | None = None

    async def begin(self) -> None:
        """The intent is durable on return, and on its way the body. Raises AuditUnavailable, unless
        the request may go on."""
        request = self._request
        frames = [self._intent_frame()]
        inline = None
        if request is not None:
            self._answer = self._running_answer(request)
            if self._is_inline(request):
                inline = self._taken_apart(request)
                self._content = dict(inline.content)
                frames += self._body_frames(inline)
        try:
            self._begun = self._spool.submit(frames)
            await self._spool.durable(self._begun)
        except AuditUnavailable as error:
            self._go_on_or_raise(error)
            return
        self._is_begun = True
        if inline is not None:
            self._recorder.known.mark(inline.addresses)
        elif request is not None:
            self._body = asyncio.get_running_loop().create_task(self._record_body(request))

    def said(self, events: Sequence[Visible]) -> Awaitable[None] | None:
        """The client is to be sent these, or the first sign of an answer: but only after what is
        returned, if anything is, was awaited. That raises AuditUnavailable."""
        answer = self._answer
        if answer is None:
            return None
        if events:
            answer.feed(events)
        if self._body is not None:
            return self._before_sending(events)
        if not self._is_begun:
            return None  # of it there is nothing that a recovery could end
        if self._recorder.keeping.strict:
            return self._before_sending(events) if events else None
        answer.keep_up(self._spool, self._prompt)
        return None

    async def end(self, outcome: AuditOutcome) -> None:
        """Durable on return. Raises AuditUnavailable, unless the request may go on: what it owes is
        then written later, if that is still possible, and never twice."""
        self._stop_chunks()
        try:
            await self._end(outcome)
        except AuditUnavailable as error:
            self._go_on_or_raise(error)
            self._recorder.open_metadata.ended(outcome)

    def forget_text(self) -> None:
        """For an `end` in which the text is at fault: without any."""
        self._stop_chunks()
        self._request = self._content = self._answer = self._body = None

    # -- the end

    async def _end(self, outcome: AuditOutcome) -> None:
        begun = self._begun
        if begun is not None and not (begun.done() or self._spool.hangs):
            with suppress(AuditUnavailable):  # told below
                await self._spool.durable(begun)  # cancelled while it was on its way
        if begun is None or has_failed(begun):
            await self._end_at_once(outcome)
        elif begun.done():
            await self._end_begun(outcome)
        else:
            begun.add_done_callback(partial(self._end_later, outcome))
            raise AuditUnavailable

    async def _end_begun(self, outcome: AuditOutcome) -> None:
        content = self._content
        if self._body is not None:
            try:
                await self._body
                content = self._content
            except AuditUnavailable:  # told to whoever waited for it; nothing of it is kept
                content = None
        frames: list[Frame] = []
        if content is not None:
            content = content | await self._answers(content, frames)
        try:
            frames.append(_outcome_frame(outcome, content))
            written = self._spool.submit(frames, essential=True)
        except AuditUnavailable:
            self._recorder.open_metadata.keep([_outcome_frame(outcome)])
            raise
        await self._spool.durable(written)

    async def _end_at_once(self, outcome: AuditOutcome) -> None:
        """Intent and outcome together. New work: a flood of refusals must not use up what running
        requests end in."""
        request = self._request
        if request is None or not self._spool.accepting:
            await self._write_both(outcome, [], None)
            return
        if self._is_inline(request):
            await self._write_both(outcome, *await self._both(request))
            return
        async with self._recorder.large_bodies.of(request.body_bytes):
            await self._write_both(outcome, *await self._both(request))

    async def _both(self, request: ChatRequest) -> tuple[list[Frame], Content]:
        """What was asked, and what was answered."""
        taken_apart = await self._taken_apart_in_time(request)
        frames = [Frame(FrameKind.MESSAGE, payload) for payload in taken_apart.payloads]
        content = dict(taken_apart.content)
        return frames, content | await self._answers(content, frames)

    async def _write_both(
        self, outcome: AuditOutcome, messages: list[Frame], content: Content | None
    ) -> None:
        intent = self._intent_frame()
        bare = [intent, _outcome_frame(outcome)]
        try:
            written = self._spool.submit([intent, *messages, _outcome_frame(outcome, content)])
        except AuditUnavailable:
            self._owe(bare)
            raise
        written.add_done_callback(partial(self._owe_if_failed, bare))
        await self._spool.durable(written)

    def _end_later(self, outcome: AuditOutcome, begun: Written) -> None:
        """The disk hung, and has now written the intent, or failed to."""
        if has_failed(begun):
            self._owe([self._intent_frame(), _outcome_frame(outcome)])
            return
        frame = _outcome_frame(outcome, self._content)
        if self._spool.offer([frame], essential=True) is None:
            self._recorder.open_metadata.keep([frame])

    def _owe_if_failed(self, frames: Sequence[Frame], written: Written) -> None:
        if has_failed(written):
            self._owe(frames)

    def _owe(self, frames: Sequence[Frame]) -> None:
        """Of requests that were refused because of it nothing is owed: they came to no worker."""
        if self._may_go_on:
            self._recorder.open_metadata.keep(frames)

    # -- the body

    def _is_inline(self, request: ChatRequest) -> bool:
        most_bytes = _most_inline(self._recorder.redaction())
        return request.body_bytes <= most_bytes and len(request.messages) <= INLINE_MESSAGES

    async def _record_body(self, request: ChatRequest) -> None:
        async with self._recorder.large_bodies.of(request.body_bytes):
            content = await self._taken_apart_in_time(request)
            await self._spool.append(self._body_frames(content))
        self._content = dict(content.content)
        self._recorder.known.mark(content.addresses)

    async def _taken_apart_in_time(self, request: ChatRequest) -> RequestContent:
        if self._is_inline(request):
            return self._taken_apart(request)
        return await asyncio.to_thread(self._taken_apart, request)

    def _taken_apart(self, request: ChatRequest) -> RequestContent:
        recorder = self._recorder
        return content_of(
            request.sent, self._tenant, recorder.addresses, recorder.known, recorder.redaction()
        )

    def _body_frames(self, content: RequestContent) -> list[Frame]:
        body = BodyPayload(self._intent.request_id, content.content)
        return [
            *(Frame(FrameKind.MESSAGE, payload) for payload in content.payloads),
            Frame(FrameKind.BODY, encode_body(body)),
        ]

    # -- the answer

    def _running_answer(self, request: ChatRequest) -> RunningAnswer:
        return RunningAnswer(
            self._intent.request_id,
            self._tenant,
            request.n,
            self._thoughts,
            self._recorder.redaction(),
            self._recorder.keeping,
            self._recorder.clock,
        )

    def _stop_chunks(self) -> None:
        if self._answer is not None:
            self._answer.close()

    async def _before_sending(self, events: Sequence[Visible]) -> None:
        try:
            if self._body is not None:
                await asyncio.shield(self._body)
                self._body = None
            if self._recorder.keeping.strict and events and self._answer is not None:
                chunk = self._answer.chunk(self._prompt)
                if chunk is not None:
                    await self._spool.append([chunk], essential=True)
            elif self._answer is not None:
                self._answer.keep_up(self._spool, self._prompt)
        except AuditUnavailable as error:
            self._go_on_or_raise(error)
            self.forget_text()

    async def _answers(self, content: Content, frames: list[Frame]) -> Content:
        """Where something was answered; adds its messages to the frames."""
        messages = {} if self._answer is None else self._answer.messages()
        if not messages:
            return {}
        recorder = self._recorder
        redaction = recorder.redaction()
        make = partial(
            answer_content,
            messages,
            self._tenant,
            content["prompt"],
            recorder.addresses,
            redaction,
        )
        inline = len(orjson.dumps([*messages.values()])) <= _most_inline(redaction)
        payloads, answers = make() if inline else await asyncio.to_thread(make)
        frames += [Frame(FrameKind.MESSAGE, payload) for payload in payloads]
        return {"answers": answers}

    # -- both

    @property
    def _prompt(self) -> str | None:
        return (self._content or {}).get("prompt")

    @property
    def _tenant(self) -> str:
        return self._intent.tenant or ""

    def _intent_frame(self) -> Frame:
        return Frame(FrameKind.INTENT, encode_intent(self._intent))

    def _go_on_or_raise(self, error: AuditUnavailable) -> None:
        if not self._may_go_on:
            raise error
        if not self._told:
            self._told = True
            self._recorder.open_metadata.begun(self._intent)


def _most_inline(redaction: Redaction) -> int:
    return INLINE_MASKED_BYTES if redaction.masks else INLINE_BODY_BYTES


def _outcome_frame(outcome: AuditOutcome, content: Content | None = None) -> Frame:
    return Frame(FrameKind.OUTCOME, encode_outcome(replace(outcome, content=content)))
