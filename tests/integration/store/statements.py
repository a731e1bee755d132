"""What a database is asked, and who waits for whom in it."""

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tests.support.conditions import eventually_found

DEADLINE_SECONDS = 60.0  # only spent on failure

_WAITING = text(
    "SELECT count(*) FROM pg_locks "
    "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
)


class Statements(list[str]):
    """The SQL that an engine has run."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        event.listen(engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, connection: object, cursor: object, statement: str, *rest: object) -> None:
        self.append(f"{statement} {rest[0]!r}")


async def until_one_waits(connection: AsyncConnection) -> None:
    """Until another connection waits for what this one holds."""

    async def waiting() -> int | None:
        return await connection.scalar(_WAITING) or None

    await eventually_found(waiting, DEADLINE_SECONDS, "a connection that waits")
