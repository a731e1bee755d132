"""What a key or a tenant has spent of its budgets, for an operator to read."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spent import charged_tokens


async def spent_tokens(
    engine: AsyncEngine, *, key_id: str | None = None, tenant: str | None = None
) -> dict[str, int]:
    """This day's and this month's, of UTC, by name; what is in the audit log by now."""
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {
        name: await charged_tokens(
            engine,
            key_id=key_id,
            tenant=tenant,
            since=since.timestamp(),
            until=now.timestamp(),
        )
        for name, since in (("tokens_today", day), ("tokens_this_month", day.replace(day=1)))
    }


def spent_rows(spent: dict[str, int]) -> list[tuple[str, object]]:
    """For a list of fields."""
    return [(name.replace("_", " "), tokens) for name, tokens in spent.items()]
