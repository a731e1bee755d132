"""The connection pool to Postgres."""

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.settings import SettingsError

POOL_CONNECTIONS = 5  # per process: key look-ups and audit batches are short and few
POOL_TIMEOUT_SECONDS = 2.0  # a request must not hang on a full pool
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0  # nothing on the data path takes a tenth of that


def create_engine(url: str) -> AsyncEngine:
    """An engine on asyncpg for `postgres://`, `postgresql://` or `postgresql+asyncpg://` URLs.

    Raises SettingsError where the URL is not one.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError(
            "GATEWAY_DATABASE_URL: is not a URL like postgresql://user:password@host:5432/name"
        ) from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise SettingsError(f"GATEWAY_DATABASE_URL: {parsed.drivername} is not PostgreSQL")
    return create_async_engine(
        parsed.set(drivername="postgresql+asyncpg"),
        pool_size=POOL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=False,  # costs a round trip; a stale connection is retried once instead
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "server_settings": {"application_name": "qwythos-gateway"},
        },
    )
