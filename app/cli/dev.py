"""`gateway dev`, which `make run` calls: a gateway with all that it needs, on one machine."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from app.audit.start import check_spool
from app.cli.database import unreachable
from app.cli.errors import BadUsage, CommandError
from app.embedded.dev_secrets import dev_pepper, dev_sealing_key
from app.embedded.errors import EmbeddedError
from app.embedded.postgres import embedded_postgres
from app.embedded.worker import EmbeddedWorker, embedded_worker
from app.main import create_app
from app.serve import GatewayServer, bind
from app.settings import Settings, SettingsError, load_settings
from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.migrate import upgrade
from app.store.transaction import DatabaseUnavailable
from app.telemetry.logs import configure_logging

BANNER = """
  Qwythos Gateway on {base}

{model}

  A fresh API key (keys and records are kept in {home}):

{key}

  Try it:

curl {base}/v1/chat/completions \\
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "qwythos", "messages": [{{"role": "user", "content": "Explain what an API gateway does in one sentence."}}]}}'

  or, in Python (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{base}/v1", api_key="{key}")
answer = client.chat.completions.create(
    model="qwythos", messages=[{{"role": "user", "content": "Hello!"}}])
print(answer.choices[0].message.content)

  Documentation: {base}/docs    Metrics: {base}/metrics    Stop: Ctrl-C
"""  # noqa: E501 - a line to be pasted

STAND_IN = """  {name} answers here: a small real model that stands in for Qwythos-9B, made to think
  aloud as it does. For real workers: GATEWAY_WORKERS='["http://10.0.0.5:8000"]' make run
  For a GGUF of your own:            GATEWAY_EMBEDDED_MODEL=/path/model.gguf make run"""


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs behind the gateway: the settings that point at it, and who answers."""

    settings: Settings
    model: str


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [default: 8080]")
def dev(host: str | None, port: int | None) -> None:
    """Serve on this machine, with an embedded PostgreSQL and a small real model.

    GATEWAY_DATABASE_URL, GATEWAY_WORKERS and GATEWAY_EMBEDDED_MODEL replace each part.
    """
    try:
        settings = load_settings(host=host, port=port)
        configure_logging(
            settings.log_level,
            console=True,
            sample_ratio=settings.log_sample_ratio,
            slow_seconds=settings.log_slow_seconds,
        )
        with bind(settings) as listener:
            asyncio.run(_serve(settings, listener))
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    except EmbeddedError as error:
        raise CommandError(str(error)) from None
    except DatabaseUnavailable as error:
        raise CommandError(unreachable(error)) from None


async def _serve(settings: Settings, listener: socket.socket) -> None:
    async with _parts(settings) as parts:
        check_spool(parts.settings)
        key = await _fresh_key(parts.settings)
        host, port = listener.getsockname()[:2]
        banner = BANNER.format(
            base=f"http://{host}:{port}", model=parts.model, key=key, home=settings.home
        )
        server = GatewayServer(
            create_app(parts.settings), parts.settings, on_ready=lambda: click.echo(banner)
        )
        await server.serve(sockets=[listener])


@asynccontextmanager
async def _parts(settings: Settings) -> AsyncIterator[Parts]:
    """Starts what is not given. Raises EmbeddedError."""
    async with AsyncExitStack() as stack:
        given: dict[str, object] = {}
        if settings.key_pepper is None:
            given["key_pepper"] = _kept(dev_pepper, settings)
        if settings.sealing_key is None:
            given["sealing_key"] = _kept(dev_sealing_key, settings)
        if settings.database_url is None:
            given["database_url"] = await stack.enter_async_context(
                embedded_postgres(settings.home)
            )
        model = "  Workers: " + _workers(settings)
        if not settings.names_workers:
            worker: EmbeddedWorker = await stack.enter_async_context(
                embedded_worker(settings.home, settings.embedded_model)
            )
            given["workers"] = [worker.settings()]
            if "default_output_tokens" not in settings.model_fields_set:
                given["default_output_tokens"] = worker.default_output_tokens
            model = STAND_IN.format(name=worker.model_name)
            if settings.embedded_model is not None:
                model = f"  {worker.model_name} answers here."
        complete = load_settings(host=settings.host, port=settings.port, **given)
        yield Parts(complete, model)


def _workers(settings: Settings) -> str:
    named = [worker.name for worker in settings.workers]
    if settings.workers_file is not None:
        named.append(f"those that {settings.workers_file} names")
    named += [f"those behind {worker.name}" for worker in settings.workers_dns]
    return ", ".join(named)


def _kept(secret: Callable[[Path], str], settings: Settings) -> str:
    try:
        return secret(settings.home)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EmbeddedError(
            f"GATEWAY_HOME: cannot keep a secret under {settings.home}: {reason}"
        ) from None


async def _fresh_key(settings: Settings) -> str:
    assert settings.database_url is not None and settings.key_pepper is not None  # noqa: S101, PT018 - set here
    engine = create_engine(settings.database_url.get_secret_value())
    try:
        await upgrade(engine)
        store = KeyStore(
            engine,
            settings.key_pepper.get_secret_value().encode(),
            cache_seconds=settings.key_cache_seconds,
            cache_entries=settings.key_cache_entries,
        )
        return (await store.create(KeyDraft(name="dev"))).secret
    finally:
        await engine.dispose()
