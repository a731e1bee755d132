"""A turn on a worker, and its answer opened: retried on another one until the model has spoken."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import structlog

from app.errors import GatewayError, UpstreamFailed
from app.gateway.fit import cold_limit
from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest, Principal
from app.protocol.opening import Opening
from app.protocol.prefix import Prefix
from app.settings import Settings
from app.store.policy import Priority
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.opened import Upstream
from app.upstream.refusals import ConnectFailed, WorkerBusy
from app.upstream.timeouts import TimedOut, Timeout
from app.upstream.worker_stream import WorkerStream
from app.upstream.workers import Workers

# What never reached a worker, or was on one that stands still, goes on to the next. What a worker
# had when it failed or broke off goes to one other and no more: it may be what workers break by.
MAX_TRIES = 4

log = structlog.get_logger()


@dataclass(slots=True)
class _Tries:
    failed: list[Endpoint] = field(default_factory=list)
    moved: bool = False  # after a worker had failed at it, or broken off
    retried: bool = False  # after a worker had failed that is still there

    def go_on(self, error: GatewayError, ask: Ask, workers: Workers) -> bool:
        """Whether to ask another one than those that have failed."""
        costly = not _is_gone(error)
        moves = costly or _broke_off(error)
        if (moves and self.moved) or len(self.failed) == MAX_TRIES:
            return False
        if not workers.may_retry(ask, self.failed, retry=costly):
            return False
        self.moved = self.moved or moves
        self.retried = self.retried or costly
        return True


@asynccontextmanager
async def route(
    prepared: PreparedRequest, principal: Principal, workers: Workers, meter: Meter
) -> AsyncIterator[Upstream]:
    """An answer that has begun, closed at the end of the block so that its worker stops.

    Waits for a place on a worker. Raises Unavailable where none can take it, or not in time,
    InvalidRequest where none can do what it asks for, ColdPrefillTooLong where the one that knew
    its beginning is gone, UpstreamFailed where the last one failed.
    """
    ask = _ask_of(prepared, principal, workers.settings, meter)
    tries = _Tries()
    while True:
        entrance = workers.turn(ask, but=tries.failed, retry=tries.retried)
        meter.waits(entrance.waiting)
        async with entrance as turn:
            meter.ask(turn.endpoint)
            try:
                stream, first = await _open(prepared, turn.endpoint, workers, meter)
            except GatewayError as error:
                meter.refused(_reason(error))
                if not isinstance(error, UpstreamFailed | WorkerBusy):
                    raise
                tries.failed.append(turn.endpoint)
                _note_failure(error, turn.endpoint, workers, meter)
                if not tries.go_on(error, ask, workers):
                    raise
                workers.metrics.upstream_retried(_reason(error))
                left = workers.settings.queue_seconds - meter.waited_seconds
                ask = replace(ask, wait_seconds=max(0.0, left))
                continue
            try:
                yield Upstream(turn, stream, first)
            except GatewayError as error:
                meter.trace.failed(_reason(error))
                raise
            finally:
                stream.close()
            return


def _is_gone(error: GatewayError) -> bool:
    """Whether the worker that failed has nothing of the request, or will do nothing more at all."""
    if isinstance(error, TimedOut):
        return error.kind is Timeout.STANDSTILL
    return isinstance(error, ConnectFailed | WorkerBusy)


def _broke_off(error: GatewayError) -> bool:
    """Whether the worker had the request when its connection went."""
    return isinstance(error, ConnectFailed) and not error.unreachable


def _ask_of(
    prepared: PreparedRequest, principal: Principal, settings: Settings, meter: Meter
) -> Ask:
    policy, estimate, again = principal.policy, prepared.estimate, prepared.rescue is not None
    return Ask(
        tenant=principal.tenant,
        prompt_tokens=prepared.prompt_tokens,
        output_tokens=prepared.max_tokens * prepared.request.n,
        needed_tokens=prepared.needed_tokens,
        fields=prepared.fields,
        prefix=Prefix(0) if estimate is None else estimate.prefix,
        conversation=b"" if estimate is None else estimate.conversation,
        priority=policy.priority or Priority.INTERACTIVE,
        wait_seconds=settings.queue_seconds,
        tags=frozenset(policy.worker_tags or ()),
        max_cold_tokens=None if again else cold_limit(prepared.request, principal),
        chat=prepared.request.chat,
        read_by=_reader(meter) if again else None,
    )


def _reader(meter: Meter) -> Endpoint | None:
    """The worker that gave the answer before, if it still has the prompt."""
    turn = meter.turns[-1] if meter.turns else None
    if turn is None or turn.generation != turn.endpoint.generation:
        return None
    return turn.endpoint


async def _open(
    prepared: PreparedRequest, endpoint: Endpoint, workers: Workers, meter: Meter
) -> tuple[WorkerStream, bytes]:
    """The answer and its first bytes, up to something that the model says. A worker that sent only
    a role, or how far it has read, has given nothing that another could not give."""
    stream = await workers.open(
        endpoint,
        prepared.fields,
        prepared.prompt_tokens,
        model=prepared.request.model,
        request_id=meter.caller.request_id,
        trace_headers=meter.trace.worker_headers(),
    )
    opening = Opening()
    first: list[bytes] = []
    try:
        while data := await stream.read():
            first.append(data)
            if opening.feed(data):
                return stream, b"".join(first)
    except TimedOut:
        stream.close()
        raise
    except UpstreamFailed as error:
        stream.close()
        raise ConnectFailed("the connection broke before the answer's first token") from error
    except BaseException:  # cancellation too: whoever opened it closes it
        stream.close()
        raise
    if opening.close():
        return stream, b"".join(first)
    if first:
        stream.broke()
    stream.close()
    raise ConnectFailed("the answer ended before its first token")


def _note_failure(error: GatewayError, endpoint: Endpoint, workers: Workers, meter: Meter) -> None:
    if isinstance(error, ConnectFailed) and error.unreachable:
        workers.pool.lose(endpoint)
    detail = error.detail if isinstance(error, ConnectFailed) else error.message
    log.warning(
        "worker_failed",
        worker=endpoint.name,
        reason=_reason(error),
        detail=detail,
        request_id=meter.caller.request_id,
    )
    workers.metrics.upstream_failed(endpoint.name, _reason(error))


def _reason(error: GatewayError) -> str:
    if isinstance(error, ConnectFailed):
        return "connect"
    return "busy" if isinstance(error, WorkerBusy) else error.code or "failed"
