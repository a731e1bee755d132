"""The small model as a worker of its own, for a container beside the gateway's."""

import asyncio
import signal
from importlib.util import find_spec
from pathlib import Path

from app.embedded.errors import MISSING_EXTRA, EmbeddedError
from app.embedded.llama_process import LlamaProcess, Place
from app.embedded.model import choose_model


async def serve_worker(model: Path | None, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT. Whoever reaches the port is answered.

    Raises EmbeddedError, also where the model server dies: what runs containers starts it again.
    """
    if find_spec("xllamacpp") is None:
        raise EmbeddedError(MISSING_EXTRA)
    server = LlamaProcess(choose_model(model), Place(host, port, api_key=""), log_path=None)
    loop = asyncio.get_running_loop()
    serving = loop.create_task(_serve(server))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)  # process 1 has no default for them
    await asyncio.wait([serving])
    if not serving.cancelled():
        await serving


async def _serve(server: LlamaProcess) -> None:
    try:
        await server.start()
        status = await server.wait()
        raise EmbeddedError(f"the model server ended with {status}")
    finally:
        await server.stop()
