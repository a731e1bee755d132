"""Which worker, and its answer opened: retried on another one only before the first byte."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from app.errors import GatewayError, UpstreamFailed
from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest
from app.upstream.endpoint import Endpoint
from app.upstream.opened import Upstream
from app.upstream.refusals import ConnectFailed, WorkerBusy
from app.upstream.worker_stream import WorkerStream
from app.upstream.workers import Workers

MAX_ATTEMPTS = 2  # one retry elsewhere

log = structlog.get_logger()


@asynccontextmanager
async def route(
    prepared: PreparedRequest, workers: Workers, meter: Meter
) -> AsyncIterator[Upstream]:
    """An answer that has begun, closed at the end of the block so that its worker stops.

    Raises Unavailable where no worker can take it, InvalidRequest where none can do what it asks
    for, UpstreamFailed where the last one failed.
    """
    failed: list[Endpoint] = []
    while True:
        endpoint = workers.pool.pick(
            tokens=prepared.needed_tokens, but=failed, fields=prepared.fields
        )
        with endpoint.carrying(workers.metrics):
            meter.ask(endpoint)
            try:
                stream, first = await _open(prepared, endpoint, workers, meter)
            except GatewayError as error:
                meter.refused()
                if not isinstance(error, UpstreamFailed | WorkerBusy):
                    raise
                failed.append(endpoint)
                _note_failure(error, endpoint, workers, meter)
                another = workers.pool.another(
                    tokens=prepared.needed_tokens, but=failed, fields=prepared.fields
                )
                if len(failed) == MAX_ATTEMPTS or not another:
                    raise
                workers.metrics.upstream_retried(_reason(error))
                continue
            try:
                yield Upstream(endpoint, stream, first)
            finally:
                stream.close()
            return


async def _open(
    prepared: PreparedRequest, endpoint: Endpoint, workers: Workers, meter: Meter
) -> tuple[WorkerStream, bytes]:
    """The answer and its first bytes: only they prove that the worker has begun."""
    stream = await workers.open(
        endpoint,
        prepared.fields,
        prepared.prompt_tokens,
        model=prepared.request.model,
        request_id=meter.caller.request_id,
    )
    try:
        first = await stream.read()
    except BaseException:  # cancellation too: whoever opened it closes it
        stream.close()
        raise
    if not first:
        stream.close()
        raise ConnectFailed("the answer ended before its first byte")
    return stream, first


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
