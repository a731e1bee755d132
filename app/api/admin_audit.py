"""`/admin/v1/audit`: who asked for what, what was said, and how it ended."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, StringConstraints
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.admin_parameters import PageLimit
from app.audit.exchange import read_exchange
from app.audit.records import Outcome
from app.audit.row import AuditRow
from app.audit.search import (
    DEFAULT_SINCE,
    EARLIEST,
    LATEST,
    AuditQuery,
    cursor_of,
    find_audit_record,
    search_audit,
)
from app.audit.search_cursor import MAX_CURSOR_CHARACTERS
from app.audit.view import (
    AuditExchangeView,
    AuditRecordView,
    exchange_json,
    record_json,
    record_view,
)
from app.errors import NotFound
from app.store.page_view import PageView, page_view
from app.store.paging import PAGE_ROWS, Page

# Each may hold a connection for seconds, of the few that requests are authenticated by.
READS_AT_ONCE = 2
MAX_TEXT_CHARACTERS = 256  # the longest that is kept of anything that can be searched for

UNFINISHED = "unfinished"
# Without NUL, which the database does not take.
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS, pattern=r"^[^\x00]*$")]


def _within_bounds(moment: datetime) -> datetime:
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"it should be between {EARLIEST:%Y} and {LATEST:%Y}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_within_bounds)]
Ended = Annotated[
    Outcome | Literal["unfinished"] | None,
    Query(description="How it ended; `unfinished`: it has not, or was not recovered yet."),
]

log = structlog.get_logger()


async def _engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.app.state.engine
    return engine


Engine = Annotated[AsyncEngine, Depends(_engine)]


def add_audit_routes(router: APIRouter) -> None:
    reads = asyncio.Semaphore(READS_AT_ONCE)

    @router.get("/audit")
    async def search_audit_records(
        engine: Engine,
        since: Annotated[
            Moment | None, Query(description="Ended since then.  [default: 7 days ago]")
        ] = None,
        until: Annotated[Moment | None, Query(description="Ended before then.")] = None,
        key_id: Text | None = None,
        tenant: Text | None = None,
        model: Text | None = None,
        outcome: Ended = None,
        conversation: Text | None = None,
        text: Annotated[
            Text | None,
            Query(description="A part of what is kept beside what was said; of a user agent, say."),
        ] = None,
        after: Annotated[str | None, Query(max_length=MAX_CURSOR_CHARACTERS)] = None,
        limit: PageLimit = PAGE_ROWS,
    ) -> PageView[AuditRecordView]:
        """Requests that have ended, newest first; `after` is the last_id of the page before."""
        query = AuditQuery(
            since=since or datetime.now(UTC) - DEFAULT_SINCE,
            until=until,
            key_id=key_id,
            tenant=tenant,
            model=model,
            outcome=outcome if isinstance(outcome, Outcome) else None,
            unfinished=outcome == UNFINISHED,
            conversation=conversation,
            text=text,
            after=after,
        )
        async with reads:
            page: Page[AuditRow] = await search_audit(engine, query, limit=limit)
        return page_view(page, record_view, cursor_of)

    @router.get("/audit/{request_id}", response_model=AuditExchangeView)
    async def get_audit_record(
        request: Request,
        engine: Engine,
        request_id: Annotated[str, Path(description="As in the answer's x-request-id.")],
        content: Annotated[
            bool, Query(description="With what was said: that somebody read it is logged.")
        ] = False,
    ) -> Response:
        """One request. Its `exchange` is there only where `content` asks for it."""
        async with reads:
            record = await find_audit_record(engine, request_id)
            if record is None:
                raise NotFound(
                    f"There is no audit record with the request id {request_id[:64]!r}.",
                    code="audit_record_not_found",
                )
            if not content:
                return _json(record_json(record))
            _log_reading(request, record)
            exchange = await read_exchange(engine, record)
        return _json(await asyncio.to_thread(exchange_json, record, exchange))


def _log_reading(request: Request, record: AuditRow) -> None:
    """Before anything is read: who has read what somebody said can be asked for, too."""
    reader: dict[str, Any] = {"by": "admin", "client_ip": request.client and request.client.host}
    log.info("audit_read", request_id=record.request_id, tenant=record.tenant, **reader)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
