"""`gateway embedded-worker`: the small model of `gateway dev`, served to a gateway elsewhere."""

import asyncio

import click

from app.cli.errors import BadUsage, CommandError
from app.embedded.errors import EmbeddedError
from app.embedded.worker_server import serve_worker
from app.settings import SettingsError, load_settings

PORT = 8000  # as vLLM's


@click.command("embedded-worker")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
def embedded_worker_command(host: str, port: int) -> None:
    """Serve the model of `gateway dev`, or GATEWAY_EMBEDDED_MODEL, to gateways on other machines.

    It asks for no key: keep the port on a network that only gateways are on.
    deploy/compose/embedded.yaml has what a gateway is told of it.
    """
    try:
        asyncio.run(serve_worker(load_settings().embedded_model, host, port))
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    except EmbeddedError as error:
        raise CommandError(str(error)) from None
