"""For operators and their machines: is it alive, does it take traffic, how is it doing."""

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.gateway.pipeline import Gateway

DATABASE_PROBE_SECONDS = 2.0

ops = APIRouter(tags=["operations"])


@ops.head("/healthz", include_in_schema=False)
@ops.get("/healthz")
async def healthz() -> dict[str, str]:
    """Alive: the event loop turns. Says nothing of anything else, so that nothing else kills it."""
    return {"status": "ok"}


@ops.head("/readyz", include_in_schema=False)
@ops.get(
    "/readyz",
    responses={503: {"description": "Takes no traffic; the body says why."}},
)
async def readyz(request: Request) -> JSONResponse:
    """Takes traffic: not draining; workers, the audit log and the database are there, or keys may
    do without the database for a while."""
    gateway: Gateway = request.app.state.gateway
    checks = {
        "accepting": not gateway.drain.draining,
        "workers": gateway.workers.pool.ready,
        "audit": gateway.audit.accepting,
        "database": await _reachable(request.app.state.engine)
        or gateway.keys.serves_without_database,
    }
    ready = all(checks.values())
    return JSONResponse(
        {"status": "ready" if ready else "not ready", "checks": checks},
        status_code=200 if ready else 503,
    )


@ops.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format, over all processes of this gateway."""
    gateway: Gateway = request.app.state.gateway
    body, content_type = await asyncio.to_thread(gateway.metrics.render)
    return Response(body, media_type=content_type)


async def _reachable(engine: AsyncEngine) -> bool:
    try:
        async with asyncio.timeout(DATABASE_PROBE_SECONDS), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (TimeoutError, OSError, SQLAlchemyError):
        return False
    return True
