"""The gateway's own tables: their schema, what this role may do to them, and room for the coming
days."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.partitions import EVENTS, last_day
from app.doctor.finding import Finding, Status, failed, warned, well
from app.store.grants import changeable
from app.store.rights import missing_rights
from app.store.schema import SCHEMA_REVISION, SchemaState, state_of

SHOWN_RIGHTS = 4  # of some thirty: who has none has forgotten one command
GRANT = "run `gateway db grant ROLE` as the owner of the tables"


async def log_findings(connection: AsyncConnection, now: datetime) -> Sequence[Finding]:
    role: str = await connection.scalar(text("SELECT current_user::text"))
    lacking = _lacking(role, await missing_rights(connection))
    if lacking is not None:
        return [lacking]  # perhaps even that of seeing which schema there is
    schema = _schema(await state_of(connection))
    if schema.status is not Status.OK:
        return [schema]
    return [schema, await _rights(connection, role), await _partitions(connection, now)]


def _lacking(role: str, missing: Sequence[str]) -> Finding | None:
    if not missing:
        return None
    more = len(missing) - SHOWN_RIGHTS
    words = ", ".join(missing[:SHOWN_RIGHTS]) + (f", and {more} more" if more > 0 else "")
    return failed("database rights", f"{role} may not {words}", GRANT)


def _schema(state: SchemaState) -> Finding:
    if state.complaint is not None:
        words, _, advice = state.complaint.rpartition(": ")
        return failed("database schema", words, advice)
    words = f"revision {state.revision}"
    if state.revision == SCHEMA_REVISION:
        return well("database schema", f"{words}, this version's")
    return well("database schema", f"{words}, of a newer version; it serves this one, too")


async def _rights(connection: AsyncConnection, role: str) -> Finding:
    relation = await changeable(connection, role)
    if relation is None:
        return well("database rights", f"{role} may run a gateway, and only add to the audit log")
    return warned(
        "database rights",
        f"{role} may change or delete what the audit log holds ({relation})",
        f"give GATEWAY_DATABASE_URL a role that does not own the tables, and {GRANT}",
    )


async def _partitions(connection: AsyncConnection, now: datetime) -> Finding:
    last = await last_day(connection)
    if last is None:
        return well("audit partitions", "none yet: the first gateway makes them")
    return _ahead(last, now.astimezone(UTC).date())


def _ahead(last: date, today: date) -> Finding:
    words = f"the last partition of {EVENTS} is that of {last}"
    if last > today:
        return well("audit partitions", f"{words}, {(last - today).days} days ahead")
    return warned(
        "audit partitions",
        f"{words}; a running gateway keeps a week of them ahead",
        "is none running? Otherwise its log says audit_partitions_not_made and why",
    )
