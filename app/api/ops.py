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
    checks = await _checks(request)
    ready = all(checks.values())
    return JSONResponse(
        {"status": "ready" if ready else "not ready", "checks": checks},
        status_code=200 if ready else 503,
    )


@ops.get("/metrics")
async def metrics(request: Request) -> Response:
    """Over all processes of this gateway, as Prometheus' text or as OpenMetrics."""
    gateway: Gateway = request.app.state.gateway
    await _checks(request)  # a gateway that nobody asks whether it is ready shows it here
    accept = request.headers.get("accept", "")
    body, content_type = await asyncio.to_thread(gateway.metrics.render, accept)
    return Response(body, headers={"content-type": content_type})


async def _checks(request: Request) -> dict[str, bool]:
    """What has to be there for this process to take traffic; counted, too: a replica that takes
    none has no errors that would tell."""
    gateway: Gateway = request.app.state.gateway
    checks = {
        "accepting": not gateway.drain.announced,
        "workers": gateway.workers.pool.ready,
        "audit": gateway.audit.accepting,
        "database": await _reachable(request.app.state.engine)
        or gateway.keys.serves_without_database,
    }
    gateway.metrics.process.ready(checks)
    return checks


async def _reachable(engine: AsyncEngine) -> bool:
    try:
        async with asyncio.timeout(DATABASE_PROBE_SECONDS), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (TimeoutError, OSError, SQLAlchemyError):
        return False
    return True
