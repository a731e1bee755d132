"""How a client receives an answer: as events while it is made, or folded at its end."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import Send

from app.api.rate_limit_headers import rate_limit_headers
from app.errors import GatewayError
from app.limits.subjects import Standing
from app.protocol.encode import KEEP_ALIVE, Encoder, Folder, encode_error, encode_progress
from app.protocol.events import Usage, Visible
from app.protocol.request import Json
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upstream.turn import Waiting

RawHeaders = list[tuple[bytes, bytes]]

# Of a client that says how long it waits: one may be late, and one lost on the way.
COMMENTS_IN_PATIENCE = 3
MIN_COMMENT_SECONDS = 1.0  # whatever it says

STREAM_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
JSON_HEADERS: RawHeaders = [(b"content-type", b"application/json")]
ADJUSTED_HEADER = b"x-gateway-adjusted"
ATTACHED_HEADER = b"x-gateway-attached-to"
DOMAINS_HEADER = b"x-gateway-domains"


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Of what a silent stream is kept alive with."""

    commit_after_seconds: float
    comment_seconds: float
    delta_seconds: float


def rhythm_of(settings: Settings, patience_seconds: float | None) -> Rhythm:
    """Three comments within the time for which the client waits for one."""
    most = math.inf
    if patience_seconds is not None:
        most = max(MIN_COMMENT_SECONDS, patience_seconds / COMMENTS_IN_PATIENCE)
    return Rhythm(
        min(settings.commit_after_seconds, most),
        min(settings.keep_alive_comment_seconds, most),
        settings.empty_delta_seconds,
    )


class StreamedAnswer:
    """Server-sent events. Nothing leaves before the worker has said something, or the client has
    waited `commit_after_seconds`; after that every failure is an event. With `progress` comments
    tell how it stands with the request."""

    def __init__(
        self,
        send: Send,
        encoder: Encoder,
        *,
        rhythm: Rhythm,
        progress: bool,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._send = send
        self._encoder = encoder
        self._rhythm = rhythm
        self._progress = progress
        self._metrics = metrics
        self._loop = loop
        self._committing = asyncio.Lock()  # the pulse and the answer may both come first
        self._headers = STREAM_HEADERS
        self._wrote_at = 0.0
        self._wrote_event_at = 0.0
        self.committed = False

    def adjusted(self, values: Mapping[str, float]) -> None:
        self._headers = [*self._headers, *_adjusted(values)]

    def limited(self, standing: Standing) -> None:
        self._headers = [*self._headers, *rate_limit_headers(standing)]

    def attached(self, request_id: str) -> None:
        self._headers = [*self._headers, (ATTACHED_HEADER, request_id.encode("ascii"))]

    def annotated(self, domains: Sequence[str], *, in_body: bool) -> None:
        self._headers = [*self._headers, *_annotated(domains)]
        self._encoder.about = _about(domains) if in_body else None

    async def send(self, events: Sequence[Visible]) -> None:
        if self.committed and not events:
            return
        # The first write carries the role, so that the client sees that its answer has begun.
        await self._write(self._encoder.encode(events) if events else self._encoder.empty_delta())

    async def finish(self, usage: Usage, finishes: Mapping[int, str]) -> None:
        await self._write(self._encoder.end(usage, finishes), last=True)

    async def fail(self, error: GatewayError) -> None:
        """Only once it was committed: the status is sent, so the error is an event."""
        self._metrics.stream_failed(error.code)
        await self._write(encode_error(error.body()), last=True)

    @asynccontextmanager
    async def pulse(self, waiting: Callable[[], Waiting | None]) -> AsyncIterator[None]:
        # Most answers are over before the first pulse: until then there is a timer and no task.
        tasks: list[asyncio.Task[None]] = []
        timer = self._loop.call_later(
            self._rhythm.commit_after_seconds,
            lambda: tasks.append(self._loop.create_task(self._beat(waiting))),
        )
        try:
            yield
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()

    async def _beat(self, waiting: Callable[[], Waiting | None]) -> None:
        """Comments keep proxies awake, empty deltas those clients that time parsed chunks."""
        if not self.committed:
            await self._comment(waiting())
        comment_seconds = self._rhythm.comment_seconds
        delta_seconds = self._rhythm.delta_seconds
        while True:
            now = self._loop.time()
            if now - self._wrote_event_at >= delta_seconds:
                self._metrics.kept_alive("delta")
                await self._write(self._encoder.empty_delta())
            elif now - self._wrote_at >= comment_seconds:
                await self._comment(waiting())
            now = self._loop.time()
            due = min(self._wrote_at + comment_seconds, self._wrote_event_at + delta_seconds)
            await asyncio.sleep(max(due - now, 0.0))

    async def _comment(self, waiting: Waiting | None) -> None:
        self._metrics.kept_alive("comment")
        comment = KEEP_ALIVE
        if self._progress and waiting is not None:
            comment = _progress(waiting)
        await self._write(comment, event=False)

    async def _write(self, data: bytes, *, event: bool = True, last: bool = False) -> None:
        """Whole events each time, so the pulse and the answer cannot mix within one."""
        if not self.committed:
            await self._commit()
        self._wrote_at = self._loop.time()
        if event:
            self._wrote_event_at = self._wrote_at
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _commit(self) -> None:
        async with self._committing:
            if not self.committed:
                await self._send(
                    {"type": "http.response.start", "status": 200, "headers": self._headers}
                )
                self._wrote_event_at = self._loop.time()
                self.committed = True


class FoldedAnswer:
    """One JSON object. A status line cannot be taken back, so nothing leaves before the end."""

    committed = False

    def __init__(self, send: Send, folder: Folder, completion: tuple[str, int, str]) -> None:
        self._send = send
        self._folder = folder
        self._completion = completion
        self._headers = JSON_HEADERS

    def adjusted(self, values: Mapping[str, float]) -> None:
        self._headers = [*self._headers, *_adjusted(values)]

    def limited(self, standing: Standing) -> None:
        self._headers = [*self._headers, *rate_limit_headers(standing)]

    def attached(self, request_id: str) -> None:
        self._headers = [*self._headers, (ATTACHED_HEADER, request_id.encode("ascii"))]

    def annotated(self, domains: Sequence[str], *, in_body: bool) -> None:
        self._headers = [*self._headers, *_annotated(domains)]
        self._folder.about = _about(domains) if in_body else None

    async def send(self, events: Sequence[Visible]) -> None:
        self._folder.feed(events)

    async def finish(self, usage: Usage, finishes: Mapping[int, str]) -> None:
        body = self._folder.body(*self._completion, usage, finishes)
        await send_whole(self._send, 200, self._headers, body)

    async def fail(self, error: GatewayError) -> None:
        raise AssertionError("a folded answer is never committed before its end")

    @asynccontextmanager
    async def pulse(self, waiting: Callable[[], Waiting | None]) -> AsyncIterator[None]:
        yield


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _progress(waiting: Waiting) -> bytes:
    """A comment, too, so that who does not know of it skips it."""
    seconds = waiting.seconds_left
    return encode_progress(
        {
            "queue_place": waiting.place,
            "prompt_tokens": waiting.estimated_prompt_tokens,
            "seconds_left": None if seconds is None else math.ceil(seconds),
        }
    )


def _adjusted(values: Mapping[str, float]) -> RawHeaders:
    text = ", ".join(f"{name}={value}" for name, value in values.items())
    return [(ADJUSTED_HEADER, text.encode("ascii"))] if text else []


def _annotated(domains: Sequence[str]) -> RawHeaders:
    return [(DOMAINS_HEADER, ", ".join(domains).encode("ascii"))] if domains else []


def _about(domains: Sequence[str]) -> Json:
    return {"domains": list(domains)}
