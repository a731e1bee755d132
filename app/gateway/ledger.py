"""The audit log, as budgets read it."""

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spent import charged_tokens
from app.limits.subjects import Subject, SubjectKind


class AuditLedger:
    """Implements Ledger."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def charged_tokens(self, subject: Subject, since: float, until: float) -> int:
        """Raises DatabaseUnavailable."""
        key = subject.kind is SubjectKind.KEY
        return await charged_tokens(
            self._engine,
            key_id=subject.id if key else None,
            tenant=None if key else subject.id,
            since=since,
            until=until,
        )
