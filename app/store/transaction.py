"""One transaction on Postgres, and what a failure of the database is called."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError, NotSupportedError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import Unavailable

RETRY_AFTER_SECONDS = 2.0  # a failover takes longer, and SDKs back off by themselves
KEY_STORE_UNAVAILABLE = (
    "key_store_unavailable"  # the code where keys, plans or tenants are asked for
)

Result = TypeVar("Result")

# What asyncpg raises while it connects is not wrapped; a refused connection is an OSError.
DATABASE_ERRORS = (
    DBAPIError,
    PoolTimeout,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)


class DatabaseUnavailable(Unavailable):
    """The database did not answer, or refused: `missing_right` says that it did for a right that
    its role has not. `reason` is one line for operators, never for clients."""

    default_code = "database_unavailable"

    def __init__(
        self, reason: str, *, code: str | None = None, missing_right: bool = False
    ) -> None:
        super().__init__(
            "The gateway's database does not answer. Please try again.",
            code=code,
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
        self.reason = reason
        self.missing_right = missing_right


async def in_transaction(
    engine: AsyncEngine,
    step: Callable[[AsyncConnection], Awaitable[Result]],
    *,
    code: str | None = None,
) -> Result:
    """Run `step` in one transaction; once more if the pooled connection turned out to be stale.

    Raises DatabaseUnavailable (503, with `code`) for every failure of the database.
    """
    try:
        try:
            return await _attempt(engine, step)
        except DBAPIError as error:
            if not is_stale(error):
                raise
        return await _attempt(engine, step)
    except DATABASE_ERRORS as error:
        missing_right = isinstance(_cause_of(error), asyncpg.InsufficientPrivilegeError)
        raise DatabaseUnavailable(
            reason_of(error), code=code, missing_right=missing_right
        ) from error


def reason_of(error: Exception) -> str:
    """The cause in one line: no SQL, no parameters, no password."""
    cause = _cause_of(error)
    if isinstance(cause, PoolTimeout):
        return "all of its connections are busy"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).splitlines()
    return lines[0] if lines else "it did not answer in time"


def _cause_of(error: Exception) -> BaseException:
    """What the driver raised."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


async def _attempt(
    engine: AsyncEngine, step: Callable[[AsyncConnection], Awaitable[Result]]
) -> Result:
    async with engine.begin() as connection:
        return await step(connection)


def is_stale(error: DBAPIError) -> bool:
    """The server was restarted, or a migration changed the table under a prepared statement."""
    return error.connection_invalidated or isinstance(error, NotSupportedError)
