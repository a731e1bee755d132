"""The worker's bytes, as what the client may see."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

import structlog

from app.errors import UpstreamFailed
from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest, Rescue
from app.gateway.worker_words import trouble_in
from app.protocol.answer import AnswerReader
from app.protocol.events import Visible
from app.protocol.rules import Start
from app.settings import Separation
from app.upstream.endpoint import Endpoint
from app.upstream.opened import Upstream

# After `[DONE]` the last bytes of the response are on their way; read, they let the connection be
# used again. A worker that keeps it open longer loses it.
TRAILING_SECONDS = 0.1

log = structlog.get_logger()


async def stream(
    upstream: Upstream, prepared: PreparedRequest, meter: Meter, inter_token_seconds: float
) -> AsyncGenerator[Sequence[Visible], None]:
    """A batch for each read that completed events: all of these. The first one may be empty: it
    says that the worker has begun.

    Raises UpstreamFailed where the worker errs, falls silent, sends what is not an answer, or ends
    without a finish reason: a quiet end is not a success.
    """
    endpoint = upstream.endpoint
    reader = AnswerReader(
        prepared.rules, start=_start(prepared, endpoint), verified=endpoint.verified
    )
    meter.readers.append(reader)
    meter.turns.append(upstream.turn)
    data = upstream.first
    heard = 0
    begun = False
    while True:
        events = reader.feed(data) if data else reader.close()
        meter.held(reader.held, released=bool(events))
        if reader.deltas > heard:
            # The prefill is over with the first delta, not with the first comment or role.
            if heard:
                upstream.stream.heard()
            else:
                upstream.turn.began()
                meter.began()
                upstream.stream.expect(inter_token_seconds)
            heard = reader.deltas
        if events or not (begun or reader.failure):
            begun = True
            yield events
        if reader.failure is not None:
            upstream.stream.broke()
            log.warning(
                "worker_stream_broken",
                worker=endpoint.name,
                reason=trouble_in(reader.failure),
                request_id=meter.caller.request_id,
            )
            raise UpstreamFailed("The model server failed while it was answering.")
        if reader.stopped_here:
            return
        if reader.done or not data:
            break
        data = await _more(upstream, reader)
    if not reader.complete:
        upstream.stream.broke()
        log.warning("worker_stream_cut", worker=endpoint.name, request_id=meter.caller.request_id)
        raise UpstreamFailed("The model server ended its answer before it was complete.")
    upstream.stream.is_whole()
    await _read_trailing(upstream)


async def _more(upstream: Upstream, reader: AnswerReader) -> bytes:
    """What comes next. A worker that goes once every choice is finished has failed nobody."""
    try:
        return await upstream.stream.read()
    except UpstreamFailed:
        if reader.complete:
            upstream.stream.is_whole()
            return b""
        raise


def _start(prepared: PreparedRequest, endpoint: Endpoint) -> Start:
    if not endpoint.settings.thinks:
        return Start.ANSWER
    if prepared.rescue is Rescue.SALVAGE:
        return Start.SPLIT  # the model may go on with the thought that we closed: held to its end
    inline = endpoint.settings.separation is Separation.INLINE
    return Start.THOUGHT if inline else Start.SPLIT


async def _read_trailing(upstream: Upstream) -> None:
    with contextlib.suppress(TimeoutError, UpstreamFailed):  # the answer is complete without
        async with asyncio.timeout(TRAILING_SECONDS):
            while await upstream.stream.read():
                pass
