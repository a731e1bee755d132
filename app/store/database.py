"""The connection pool to Postgres."""

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.settings import SettingsError

POOL_CONNECTIONS = 5  # per process: key look-ups and audit batches are short and few
POOL_TIMEOUT_SECONDS = 2.0  # a request must not hang on a full pool
CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 10.0  # nothing on the data path takes a tenth of that


def create_engine(url: str, *, connections: int = POOL_CONNECTIONS) -> AsyncEngine:
    """An engine on asyncpg for `postgres://`, `postgresql://` or `postgresql+asyncpg://` URLs.
    `connections` is the most that it opens at a time.

    Raises SettingsError where the URL is not one.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SettingsError(
            "GATEWAY_DATABASE_URL: is not a URL like postgresql://user:password@host:5432/name"
        ) from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+asyncpg"):
        raise SettingsError(f"GATEWAY_DATABASE_URL: {parsed.drivername} is not PostgreSQL")
    return create_async_engine(
        _for_asyncpg(parsed),
        hide_parameters=True,  # a digest must not reach a log through an error's text
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=False,  # costs a round trip; a stale connection is retried once instead
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "server_settings": {"application_name": "qwythos-gateway"},
        },
    )


# libpq's names, which other tools put into URLs, in asyncpg's words.
_QUERY_NAMES = {"host": "host", "port": "port", "ssl": "ssl", "sslmode": "ssl"}


def _for_asyncpg(url: URL) -> URL:
    unknown = sorted(url.query.keys() - _QUERY_NAMES.keys())
    if unknown:
        known = ", ".join(sorted(_QUERY_NAMES))
        raise SettingsError(
            f"GATEWAY_DATABASE_URL: '{unknown[0]}' is not known; the URL may carry {known}"
        )
    query = {_QUERY_NAMES[name]: value for name, value in url.query.items()}
    return url.set(drivername="postgresql+asyncpg", query=query)
