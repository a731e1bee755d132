"""The trace of one request: its span, and one below it for each step that took its time.

The spans are made when they end, from times that were noted. So nothing of a trace stands in a
context variable, from where another request could pick it up, and none is left open: whatever
became of a request, it ends once, and with it all that was begun for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from app.protocol.events import Visible
from app.telemetry import genai
from app.telemetry.shown_answer import ShownAnswer
from app.telemetry.spans import Attribute, Conclusion, Link, Span, SpanKind, SpanSink
from app.telemetry.trace_context import (
    Parent,
    TraceHeaders,
    new_span_id,
    new_trace_id,
    read_parent,
    span_id_text,
    trace_id_text,
    write_headers,
)

# A quicker step is no reason for a request's being slow; most requests have ten of them.
SHORT_STEP_SECONDS = 0.001

NANOSECONDS = 1_000_000_000
RATIO_STEPS = 2**64  # the values of a span's id


class Step(StrEnum):
    """What may take its time, by the name of its span."""

    AUTHENTICATE = "authenticate"
    BODY = "read body"
    SCREEN = "screen"
    PREPARE = "prepare"
    LIMITS = "limits"
    INTENT = "record intent"
    QUEUE = "wait for a worker"
    FOLLOW = "follow a running answer"
    SETTLE = "settle"
    OUTCOME = "record outcome"


class Trace:
    """This one is of a gateway without traces, and keeps nothing."""

    trace_id: str | None = None
    span_id: str | None = None
    recorded = False
    link: Link | None = None  # to its span, for others

    def step(self, step: Step) -> None:
        """Begins; what was before it has ended well."""

    def attempt(self, worker: str, *, model: str | None, pool: str, engine: str) -> None:
        """A worker (`host:port`, a path behind it or none) is asked, which is a step, too."""

    def began(self) -> None:
        """Its first token is there."""

    def failed(self, code: str) -> None:
        """What ran last has ended badly."""

    def worker_headers(self) -> Mapping[str, str]:
        """For the worker that is being asked."""
        return {}

    def attached(self, other: Link | None) -> None:
        """It gets the answer of the request with this `link`."""

    def said(self, events: Sequence[Visible]) -> None:
        """These its client is shown."""

    @property
    def answer(self) -> ShownAnswer | None:
        """What its client was shown, where that is to be kept."""
        return None

    def end(self, conclude: Callable[[], Conclusion]) -> None:
        """The request has ended. Does nothing a second time."""


UNTRACED = Trace()


class PassedOnTrace(Trace):
    """Of a request that leaves no spans: its place in the trace is passed on to workers and logs,
    with the word that nothing of it is kept."""

    def __init__(self, parent: Parent | None, span_id: int) -> None:
        self._parent = parent
        self._trace_id = new_trace_id() if parent is None else parent.trace_id
        self._state = "" if parent is None else parent.state
        self._root_id = span_id
        self.trace_id = trace_id_text(self._trace_id)
        self.span_id = span_id_text(span_id)

    def worker_headers(self) -> Mapping[str, str]:
        return write_headers(self._trace_id, self._root_id, self._state, sampled=False)


@dataclass(slots=True)
class _Running:
    """A step that has not ended yet."""

    name: str
    began_at: float
    span_id: int
    attributes: dict[str, Attribute]
    kind: SpanKind = SpanKind.INTERNAL


class RecordedTrace(PassedOnTrace):
    recorded = True

    def __init__(
        self,
        parent: Parent | None,
        span_id: int,
        traces: "Traces",
        received_at: float,
        started_at: float,
    ) -> None:
        """`received_at` in seconds since the epoch is `started_at` by the clock."""
        super().__init__(parent, span_id)
        self.link = (self._trace_id, span_id)
        self._traces = traces
        self._clock = traces.clock
        self._started_at = started_at
        self._epoch_ns = int(received_at * NANOSECONDS)
        self._spans: list[Span] = []
        self._running: _Running | None = None
        self._links: tuple[Link, ...] = ()
        self._answer = ShownAnswer() if traces.content else None
        self._ended = False

    def step(self, step: Step) -> None:
        now = self._clock()
        self._close(now, None)
        self._running = _Running(step, now, new_span_id(), {})

    def attempt(self, worker: str, *, model: str | None, pool: str, engine: str) -> None:
        now = self._clock()
        self._close(now, None)
        place = urlsplit(f"//{worker}")
        attributes: dict[str, Attribute] = {
            genai.OPERATION: genai.CHAT,  # whatever the client's route: all are asked so
            genai.PROVIDER: engine,
            genai.SERVER_ADDRESS: place.hostname or worker,
            genai.WORKER_POOL: pool,
        }
        if place.port is not None:
            attributes[genai.SERVER_PORT] = place.port
        name = genai.CHAT
        if model is not None:
            attributes[genai.REQUEST_MODEL] = model
            name = f"{genai.CHAT} {model}"
        self._running = _Running(name, now, new_span_id(), attributes, SpanKind.CLIENT)

    def began(self) -> None:
        running = self._running
        if running is not None and running.kind is SpanKind.CLIENT:
            running.attributes[genai.FIRST_CHUNK_SECONDS] = self._clock() - running.began_at

    def failed(self, code: str) -> None:
        self._close(self._clock(), code)

    def worker_headers(self) -> Mapping[str, str]:
        running = self._running
        span_id = self._root_id if running is None else running.span_id
        return write_headers(self._trace_id, span_id, self._state, sampled=True)

    def attached(self, other: Link | None) -> None:
        if other is not None:
            self._links = (other,)

    def said(self, events: Sequence[Visible]) -> None:
        if self._answer is not None:
            self._answer.add(events)

    @property
    def answer(self) -> ShownAnswer | None:
        return self._answer

    def end(self, conclude: Callable[[], Conclusion]) -> None:
        if self._ended:
            return
        self._ended = True
        now = self._clock()
        self._close(now, None)
        end = conclude()
        attributes = end.attributes
        if end.error is not None:
            attributes = {**attributes, genai.ERROR_TYPE: end.error}
        parent = self._parent
        root = Span(
            end.name,
            SpanKind.SERVER,
            self._trace_id,
            self._root_id,
            None if parent is None else parent.span_id,
            parent is not None,
            self._state,
            self._epoch_ns,
            self._nanoseconds(now),
            attributes,
            end.error if end.failed else None,
            self._links,
        )
        self._traces.offer([*self._spans, root])

    def _close(self, now: float, error: str | None) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        quick = now - running.began_at < SHORT_STEP_SECONDS
        if quick and error is None and running.kind is SpanKind.INTERNAL:
            return
        if error is not None:
            running.attributes[genai.ERROR_TYPE] = error
        self._spans.append(
            Span(
                running.name,
                running.kind,
                self._trace_id,
                running.span_id,
                self._root_id,
                False,
                self._state,
                self._nanoseconds(running.began_at),
                self._nanoseconds(now),
                running.attributes,
                error,
            )
        )

    def _nanoseconds(self, at: float) -> int:
        return self._epoch_ns + int((at - self._started_at) * NANOSECONDS)


class NoTraces:
    """Of a gateway without a collector."""

    content = False

    def begin(
        self, headers: Callable[[], TraceHeaders], received_at: float, started_at: float
    ) -> Trace:
        return UNTRACED


class Traces(NoTraces):
    """Of all requests of this process."""

    def __init__(
        self,
        sink: SpanSink,
        clock: Callable[[], float],
        *,
        ratio: float,
        follow_clients: bool,
        content: bool,
    ) -> None:
        self.clock = clock
        self.content = content
        self.offer = sink.offer
        self._below = int(ratio * RATIO_STEPS)
        self._follow_clients = follow_clients

    def begin(
        self, headers: Callable[[], TraceHeaders], received_at: float, started_at: float
    ) -> Trace:
        parent = read_parent(headers())
        span_id = new_span_id()
        if self._follow_clients and parent is not None:
            sampled = parent.sampled
        else:
            # Of the span's id, which is ours, and not of the trace's, which a client may choose.
            sampled = span_id < self._below
        if not sampled:
            return PassedOnTrace(parent, span_id)
        return RecordedTrace(parent, span_id, self, received_at, started_at)
