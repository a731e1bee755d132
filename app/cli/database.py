"""The database of a command: the one that is configured, or else the embedded one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.errors import BadUsage, CommandError
from app.embedded.errors import EmbeddedError
from app.embedded.postgres import embedded_postgres
from app.errors import GatewayError
from app.settings import Settings, SettingsError, load_settings
from app.store.database import create_engine
from app.store.migrate import upgrade
from app.store.schema import schema_state
from app.store.transaction import DatabaseUnavailable

Result = TypeVar("Result")


@asynccontextmanager
async def command_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on GATEWAY_DATABASE_URL, or on the embedded database under GATEWAY_HOME, which is
    started if it does not run. Raises SettingsError and EmbeddedError."""
    if settings.database_url is not None:
        async with _engine(settings.database_url.get_secret_value()) as engine:
            yield engine
    else:
        async with embedded_postgres(settings.home) as url, _engine(url) as engine:
            yield engine


def on_database(
    step: Callable[[AsyncEngine, Settings], Awaitable[Result]], *, migrated: bool = True
) -> Result:
    """Run `step` with the settings' database; what goes wrong becomes a CommandError.

    `migrated`: the schema has to be current. The embedded database, which has no other keeper, is
    brought up to date; for any other the command says what to run.
    """
    try:
        return asyncio.run(_run(step, migrated=migrated))
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    except EmbeddedError as error:
        raise CommandError(str(error)) from None
    except DatabaseUnavailable as error:
        raise CommandError(unreachable(error)) from None
    except GatewayError as error:
        raise CommandError(error.message) from None


def unreachable(error: DatabaseUnavailable) -> str:
    """The line that every command prints when the database fails."""
    if error.missing_right:
        return f"the database refuses: {error.reason}; `gateway db grant` gives a role its rights"
    return f"the database does not answer: {error.reason}; check GATEWAY_DATABASE_URL"


async def _run(
    step: Callable[[AsyncEngine, Settings], Awaitable[Result]], *, migrated: bool
) -> Result:
    settings = load_settings()
    async with command_engine(settings) as engine:
        state = await schema_state(engine) if migrated else None
        if state is not None and state.complaint is not None:
            if settings.database_url is not None or not state.is_behind:
                raise CommandError(state.complaint)
            await upgrade(engine)
        return await step(engine, settings)


@asynccontextmanager
async def _engine(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()
