"""The image's content as a container runs it: process 1, a user without rights, a disk that cannot
be written."""

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import psutil

from tests.deploy.containers import USER_ID, Container, first_process
from tests.deploy.dockerfile import parse
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, PEPPER
from tests.support.raw_client import connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import Serving, serving

WITHIN_SECONDS = 60.0  # only spent on failure
DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"

WHO_AND_WHERE = """
import os, sys, tempfile
tempfile.TemporaryFile().close()
try:
    open(os.path.join(sys.prefix, "written"), "w").close()
except OSError as error:
    print(os.getpid(), os.getuid(), os.getgid(), os.strerror(error.errno))
"""


async def test_a_stream_is_finished_when_the_container_is_stopped(
    image_environment: Path,
    container: Container,
    database_url: str,
    worker: ScriptedWorker,
    key: str,
) -> None:
    worker.answers(Answer(["word "] * 100, pace_seconds=0.02))
    async with _running(image_environment, container, database_url, worker) as served:
        assert await _health(image_environment, f"{served.url}/healthz") == 0
        async with connected(served.port) as client:
            await client.post(CHAT, key, {"model": "qwythos", "messages": HELLO, "stream": True})
            await client.head()
            os.kill(first_process(served.process.pid), signal.SIGTERM)
            text = b"".join(await client.chunks())
        assert b'"error"' not in text
        assert text.endswith(b"data: [DONE]\n\n")
        assert await served.exit_code() == 0


async def test_processes_that_die_are_replaced_and_none_stays_a_zombie(
    image_environment: Path, container: Container, database_url: str, worker: ScriptedWorker
) -> None:
    options = ("--processes", "2")
    async with _running(image_environment, container, database_url, worker, *options) as served:
        first = psutil.Process(first_process(served.process.pid))
        killed, other = _servers(first)
        killed.kill()
        await eventually(
            lambda: len(_servers(first) - {killed, other}) == 1, WITHIN_SECONDS, "a new process"
        )
        await eventually(lambda: not killed.is_running(), WITHIN_SECONDS, "the old one to be gone")
        first.send_signal(signal.SIGTERM)
        assert await served.exit_code() == 0


async def test_a_stop_that_comes_before_it_serves_is_not_lost(
    image_environment: Path, container: Container
) -> None:
    """Which it would be where it is left to process 1's default."""
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as database:
        port = database.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *container.program(*_said("ENTRYPOINT", image_environment), "serve"),
            env={
                "PATH": os.environ["PATH"],
                "GATEWAY_DATABASE_URL": f"postgresql://u:p@127.0.0.1:{port}/x",
                "GATEWAY_KEY_PEPPER": PEPPER,
                "GATEWAY_WORKERS": '["http://127.0.0.1:1"]',
                "GATEWAY_HOME": str(container.home),
            },
        )
        async with asyncio.timeout(WITHIN_SECONDS):
            await asked.wait()
            os.kill(first_process(process.pid), signal.SIGTERM)
            assert await process.wait() == 0


async def test_it_is_process_1_of_its_user_and_cannot_change_what_it_runs(
    image_environment: Path, container: Container
) -> None:
    """Of the container that these tests have; what it says of others, tests/deploy/test_compose.py
    and the chart's tests ask."""
    python = str(image_environment / "bin" / "python")
    process = await asyncio.create_subprocess_exec(
        *container.program(python, "-I", "-c", WHO_AND_WHERE), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert said.decode() == f"1 {USER_ID} {USER_ID} Read-only file system\n"


def _running(
    environment: Path,
    container: Container,
    database_url: str,
    worker: ScriptedWorker,
    *options: str,
) -> AbstractAsyncContextManager[Serving]:
    return serving(
        database_url,
        worker,
        *options,
        program=container.program(*_said("ENTRYPOINT", environment)),
        home=container.home,
        audit_directory=container.home / "audit",
    )


async def _health(environment: Path, url: str) -> int:
    """The exit code of the image's own check, of another URL than the one that it has."""
    process = await asyncio.create_subprocess_exec(*_said("HEALTHCHECK", environment), url)
    return await process.wait()


def _said(instruction: str, environment: Path) -> list[str]:
    """What the Dockerfile runs, from the environment that the image has first on its PATH."""
    image = parse(DOCKERFILE.read_text("utf-8"))
    program, *arguments = image.last("gateway", instruction).exec_form
    return [str(environment / "bin" / program), *arguments]


def _servers(first: psutil.Process) -> set[psutil.Process]:
    """Those of its children that serve: neither multiprocessing's own, nor any that has died."""
    found = set()
    for child in first.children():
        with suppress(psutil.NoSuchProcess):  # a zombie, too, has no command any more
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child)
    return found
