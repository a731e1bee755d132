"""The embedded worker, on llama.cpp's real server with the real small model."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import orjson
import psutil
import pytest

from app.embedded.errors import EmbeddedError
from app.embedded.llama_process import LlamaProcess, Place, reserved_port
from app.embedded.model import choose_model
from app.embedded.worker import EmbeddedWorker, embedded_worker
from app.upstream.engines import dialect_of, worker_body
from tests.support.conditions import eventually, eventually_found

OWNER = """
import asyncio, pathlib, sys
from app.embedded.worker import embedded_worker

async def main():
    async with embedded_worker(pathlib.Path(sys.argv[1]), None):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def servers(of: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(of).children():
        with suppress(psutil.NoSuchProcess):  # one that has just ended, a zombie, too
            if any("llama_server" in word for word in child.cmdline()):
                found.append(child)
    return found


@asynccontextmanager
async def asking(worker: EmbeddedWorker) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"authorization": f"Bearer {worker.api_key}"}
    async with aiohttp.ClientSession(worker.url, headers=headers) as session:
        yield session


def request_body(worker: EmbeddedWorker, question: str) -> bytes:
    """As the gateway asks; but the likeliest answer, as others are drawn by chance."""
    settings = worker.settings()
    messages = [{"role": "user", "content": question}]
    fields = {"messages": messages, "max_tokens": 400, "temperature": 0}
    return worker_body(dialect_of(settings), settings, worker.model_name, fields)


async def answer(worker: EmbeddedWorker, question: str) -> str:
    """All text of a streamed answer."""
    text = ""
    async with (
        asking(worker) as session,
        session.post("/v1/chat/completions", data=request_body(worker, question)) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                for choice in orjson.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
    return text


async def test_it_thinks_aloud_and_answers_sensibly(tmp_path: Path) -> None:
    async with embedded_worker(tmp_path, None) as worker:
        assert worker.stand_in
        assert worker.opens_thought
        assert worker.context_tokens == 8192
        assert "api_key" not in repr(worker)
        thought, closing, said = (
            await answer(worker, "Explain what an API gateway does in one sentence.")
        ).partition("\n</think>\n\n")
        assert closing
        assert "<think>" not in thought
        assert len(thought) <= 160
        assert said.startswith("An API gateway is")
        assert said.endswith(".")
        assert "Paris" in await answer(worker, "What is the capital of France?")


async def test_nobody_without_its_key_is_answered(tmp_path: Path) -> None:
    async with (
        embedded_worker(tmp_path, None) as worker,
        aiohttp.ClientSession(worker.url) as session,
        session.get("/v1/models") as response,
    ):
        assert response.status == 401
        [server] = servers(os.getpid())
        assert worker.api_key not in " ".join(server.cmdline())
        assert server.environ() == {}


async def metric(worker: EmbeddedWorker, name: str) -> float:
    async with asking(worker) as session, session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"llamacpp:{name} "))


async def test_a_client_that_leaves_in_prefill_frees_the_slot(tmp_path: Path) -> None:
    async with embedded_worker(tmp_path, None) as worker, asking(worker) as session:

        async def running(count: int) -> bool | None:
            return True if await metric(worker, "requests_processing") == count else None

        async def ask() -> None:
            body = request_body(worker, "word hello sea " * 2300)
            async with session.post("/v1/chat/completions", data=body) as response:
                await response.read()

        asking_task = asyncio.get_running_loop().create_task(ask())
        await eventually_found(lambda: running(1), 60, "the prompt to be read")
        asking_task.cancel()
        await eventually_found(lambda: running(0), 120, "the slot to be free")
        assert await metric(worker, "n_tokens_max") < 7_000  # of 7,200


async def test_it_returns_under_its_address_after_a_crash(tmp_path: Path) -> None:
    async with embedded_worker(tmp_path, None) as worker:
        [first] = servers(os.getpid())
        first.send_signal(signal.SIGKILL)

        async def models() -> bytes | None:
            try:
                async with asking(worker) as session, session.get("/v1/models") as response:
                    return await response.read() if response.status == 200 else None
            except aiohttp.ClientError:
                return None

        assert worker.model_name.encode() in await eventually_found(models, 120, "a new server")
        assert servers(os.getpid()) != [first]
    assert servers(os.getpid()) == []


async def test_it_ends_with_a_killed_gateway(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    await owner.stdout.readline()
    [server] = servers(owner.pid)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    await eventually(lambda: not server.is_running(), 60, "the model server to end")


async def test_a_model_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"^GATEWAY_EMBEDDED_MODEL: cannot read .*: No such"):
        async with embedded_worker(tmp_path, tmp_path / "missing.gguf"):
            pass


async def test_a_model_that_cannot_be_loaded_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(EmbeddedError, match=r"does not start with broken\.gguf: see .*llama\.log$"):
        async with embedded_worker(tmp_path, broken):
            pass
    assert servers(os.getpid()) == []


async def test_a_library_that_the_system_lacks_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    log = tmp_path / "llama.log"
    log.write_text("ImportError: libgomp.so.1: cannot open shared object file\n")  # the linker's
    model = choose_model(broken)
    with reserved_port() as reserved:
        server = LlamaProcess(model, Place("127.0.0.1", reserved.getsockname()[1], ""), log)
        with pytest.raises(
            EmbeddedError, match=r"lacks libgomp\.so\.1 \(apt-get install libgomp1\)"
        ):
            await server.start()
        await server.stop()
