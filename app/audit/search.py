"""Reading the audit log back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.records import Outcome
from app.store.tables import audit_records
from app.store.transaction import in_transaction

# ~1 KiB each in memory, and some 60 KiB with the longest findings; a whole log is exported, not
# searched.
MAX_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One request. `outcome` and what follows it are None while it runs, or after a crash;
    `charged_tokens` and `settled_at` also where nothing was taken from a budget."""

    request_id: str
    received_at: datetime
    route: str
    key_id: str | None
    tenant: str | None
    model: str | None
    stream: bool | None
    body_bytes: int
    parameters: dict[str, Any]
    client_ip: str | None
    user_agent: str | None
    client_request_id: str | None
    outcome: str | None
    status: int | None
    error_code: str | None
    finish_reason: str | None
    worker: str | None
    attempts: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    usage_exact: bool | None
    time_to_first_token_seconds: float | None
    duration_seconds: float | None
    findings: dict[str, Any]
    charged_tokens: int | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is asked for; None asks for all. `unfinished` asks for requests without an outcome.

    `since` is what makes a search in a long log quick: its index is by time.
    """

    since: datetime | None = None
    key_id: str | None = None
    tenant: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    unfinished: bool = False


async def search_audit(engine: AsyncEngine, query: AuditQuery, *, limit: int) -> list[AuditRow]:
    """Newest first. Raises DatabaseUnavailable."""
    column = audit_records.c
    wanted = select(audit_records).order_by(column.received_at.desc(), column.request_id)
    if query.since is not None:
        wanted = wanted.where(column.received_at >= query.since)
    if query.unfinished:
        wanted = wanted.where(column.outcome.is_(None))
    for name in ("key_id", "tenant", "model", "outcome"):
        value = getattr(query, name)
        if value is not None:
            wanted = wanted.where(column[name] == value)

    async def step(connection: AsyncConnection) -> list[AuditRow]:
        rows = await connection.execute(wanted.limit(min(limit, MAX_RECORDS)))
        return [AuditRow(**row) for row in rows.mappings()]

    return await in_transaction(engine, step)


async def find_audit_record(engine: AsyncEngine, request_id: str) -> AuditRow | None:
    """Raises DatabaseUnavailable."""

    async def step(connection: AsyncConnection) -> AuditRow | None:
        wanted = select(audit_records).where(audit_records.c.request_id == request_id)
        row = (await connection.execute(wanted)).mappings().first()
        return None if row is None else AuditRow(**row)

    return await in_transaction(engine, step)
