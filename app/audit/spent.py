"""What a budget has spent, as the audit log tells it: the truth when Redis has lost the sums."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.projection import moment
from app.store.tables import audit_events
from app.store.transaction import in_transaction

# A month of ten million requests is summed in a second or two, from the index alone. Shorter than
# the client's own limit, so that the database stops working on what nobody waits for.
STATEMENT_SECONDS = 5.0


async def charged_tokens(
    engine: AsyncEngine,
    *,
    key_id: str | None = None,
    tenant: str | None = None,
    since: float,
    until: float,
) -> int:
    """The tokens that were charged to one key or to one tenant, exactly one of which is given, and
    settled from `since` to `until`, both included, in wall-clock seconds since the epoch. What the
    log has not yet written is not among them.

    Raises DatabaseUnavailable, also when the sum takes longer than STATEMENT_SECONDS.
    """
    wanted = _sum(_subject(key_id, tenant), since, until)

    async def step(connection: AsyncConnection) -> int:
        limit = f"{STATEMENT_SECONDS * 1000:.0f}ms"
        await connection.execute(select(func.set_config("statement_timeout", limit, True)))
        return int(await connection.scalar(wanted) or 0)

    return await in_transaction(engine, step)


def _subject(key_id: str | None, tenant: str | None) -> ColumnElement[bool]:
    if (key_id is None) == (tenant is None):
        raise ValueError("give a key's id or a tenant")
    column = audit_events.c
    return column.key_id == key_id if key_id is not None else column.tenant == tenant


def _sum(subject: ColumnElement[bool], since: float, until: float) -> Select[tuple[int]]:
    settled_at, charged = audit_events.c.settled_at, audit_events.c.charged_tokens
    # Nobody is charged less than nothing: whoever inserts such a row would give a budget back.
    return select(func.sum(charged)).where(
        subject, charged > 0, settled_at >= _moment(since), settled_at <= _moment(until)
    )


def _moment(seconds: float) -> datetime:
    """Rounded as what is in the table is, so that a bound includes what was settled at the very
    same number. What no date can say is beyond everything that was settled."""
    try:
        return moment(seconds)
    except ValueError:
        return (datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC)
