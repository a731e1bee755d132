"""One model server after another, on one port: started, watched, started again."""

import asyncio
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import structlog

from app.embedded.errors import EmbeddedError
from app.embedded.model import SLOTS, EmbeddedModel, threads_for

log = structlog.get_logger()

HOST = "127.0.0.1"
CHILD = Path(__file__).with_name("llama_server.py")
LOG_NAME = "llama.log"

START_SECONDS = 300.0  # a large model on a slow disk
POLL_SECONDS = 0.05
POLL_TIMEOUT_SECONDS = 5.0
STOP_SECONDS = 2.0  # it ends in milliseconds; then it is killed
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0  # after a life this long, the backoff starts anew
EVERYWHERE = ("0.0.0.0", "::")
MISSING_LIBRARY = b"libgomp.so.1"  # of GCC's OpenMP, which the linker names


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens. An empty key: whoever comes is answered."""

    host: str
    port: int
    api_key: str = field(repr=False)


class LlamaProcess:
    """A llama.cpp server whose place outlasts its restarts. It logs to the file, or else to our own
    outputs."""

    def __init__(self, model: EmbeddedModel, place: Place, log_path: Path | None) -> None:
        self._model = model
        self._place = place
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """As this machine reaches it."""
        host = HOST if self._place.host in EVERYWHERE else self._place.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._place.port}"

    @property
    def api_key(self) -> str:
        return self._place.api_key

    @property
    def _log_name(self) -> str:
        return "above" if self._log_path is None else str(self._log_path)

    async def start(self) -> None:
        """Returns once it answers. Raises EmbeddedError where it ends or hangs before that."""
        self._process = process = await self._spawn()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._answering(process)
        except TimeoutError:
            await self.stop()
            raise EmbeddedError(
                f"the model server does not answer after {START_SECONDS:g} s: see {self._log_name}"
            ) from None

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None, "it was never started"  # noqa: S101 - the caller's order
        return await self._process.wait()

    async def keep_alive(self) -> None:
        """Starts it again whenever it ends, until cancelled; sooner at first, then later."""
        loop = asyncio.get_running_loop()
        backoff = FIRST_BACKOFF_SECONDS
        while self._process is not None:
            started = loop.time()
            status = await self._process.wait()
            if loop.time() - started > STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            log.error("embedded_worker_died", status=status, restart_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
            try:
                await self.start()
                log.info("embedded_worker_restarted", pid=self._process.pid)
            except (EmbeddedError, OSError) as error:
                log.error("embedded_worker_not_restarted", reason=str(error))

    async def stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None  # noqa: S101 - it was made with a pipe
        process.stdin.close()  # which ends it
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        with nullcontext() if self._log_path is None else self._log_path.open("ab") as log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # no module of the working directory
                str(CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                env={},  # nothing of the gateway's secrets
                start_new_session=True,  # Ctrl-C is for the gateway, which drains first
            )
        launch = {
            "model": str(self._model.path),
            "model_name": self._model.name,
            "host": self._place.host,
            "port": self._place.port,
            "api_key": self._place.api_key,
            "context_tokens": self._model.context_tokens,
            "slots": SLOTS,
            "threads": threads_for(self._model),
            # On a CPU it halves the small model's speed from 2,000 tokens on; a large one may have
            # a GPU.
            "flash_attention": not self._model.stand_in,
            "chat_template": self._model.chat_template,
        }
        assert process.stdin is not None  # noqa: S101 - it was made with a pipe
        process.stdin.write(json.dumps(launch).encode() + b"\n")
        return process

    async def _answering(self, process: asyncio.subprocess.Process) -> None:
        timeout = aiohttp.ClientTimeout(total=POLL_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while process.returncode is None:
                with suppress(aiohttp.ClientError, TimeoutError):  # it does not listen yet
                    async with session.get(self.url + "/health") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(POLL_SECONDS)
        raise EmbeddedError(
            f"the model server does not start with {self._model.path.name}: "
            f"{self._missing_library()}see {self._log_name}"
        )

    def _missing_library(self) -> str:
        """What the log says that slim systems lack; the wheel brings all else."""
        if self._log_path is None or MISSING_LIBRARY not in self._log_path.read_bytes():
            return ""
        return f"the system lacks {MISSING_LIBRARY.decode()} (apt-get install libgomp1); "


@asynccontextmanager
async def running(model: EmbeddedModel, home: Path) -> AsyncIterator[LlamaProcess]:
    """A server on a private port, with a key, that answers and is started again whenever it dies.

    Raises EmbeddedError.
    """
    _begin_log(home)
    with reserved_port() as reserved:
        place = Place(HOST, reserved.getsockname()[1], secrets.token_urlsafe(32))
        server = LlamaProcess(model, place, home / LOG_NAME)
        keeper: asyncio.Task[None] | None = None
        try:
            await server.start()
            keeper = asyncio.get_running_loop().create_task(server.keep_alive())
            yield server
        finally:
            if keeper is not None:
                keeper.cancel()
                with suppress(asyncio.CancelledError):  # ours, of the line above
                    await keeper
            await server.stop()


def _begin_log(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / LOG_NAME).write_bytes(b"")  # one run's log: it cannot grow from run to run
    except OSError as error:
        raise EmbeddedError(f"cannot keep a log under {home}: {error.strerror}") from None


def reserved_port() -> socket.socket:
    """A port of ours, bound and never listened on: while the server is away, connections to it are
    refused, and no other user's program can take it and be sent prompts and the key."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((HOST, 0))
    return holder
