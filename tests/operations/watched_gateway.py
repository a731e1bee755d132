"""A gateway process of which everything is kept that comes out of it: answers, output, files."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.operations.canaries import Journal
from tests.support.conditions import eventually_found
from tests.support.raw_client import connected

READY_SECONDS = 180.0  # all of these are only spent on failure
EXIT_SECONDS = 120.0
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Watched:
    process: asyncio.subprocess.Process
    port: int
    http: aiohttp.ClientSession
    journal: Journal

    async def ask(
        self,
        where: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """The status and the body; both and the headers are kept as `answer: where`."""
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            self.http.request(
                method,
                f"http://127.0.0.1:{self.port}{path}",
                headers=headers,
                json=json,
                data=body,
            ) as answer,
        ):
            content = await answer.read()
        lines = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
        self.journal.note(f"answer: {where}", lines.encode() + content)
        return answer.status, content

    async def say(self, where: str, data: bytes) -> None:
        """Any bytes; what comes back until the connection is closed is kept."""
        async with connected(self.port) as client:
            await client.send(data)
            head = await client.head()
            body = await client.body(head)
        self.journal.note(f"answer: {where}", f"{head} {body}")

    def note_command_lines(self) -> None:
        """Of the process and of those below it, with their names."""
        for pid in _family(self.process.pid):
            for name in ("cmdline", "comm"):
                with suppress(OSError):  # a process that has just ended
                    self.journal.note("command lines", Path(f"/proc/{pid}/{name}").read_bytes())

    async def stop(self) -> int:
        self.process.terminate()
        async with asyncio.timeout(EXIT_SECONDS):
            return await self.process.wait()


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        return [pid]
    below = [each for child in children.read_text().split() for each in _family(int(child))]
    return [pid, *below]


@asynccontextmanager
async def watched(
    command: Sequence[str], environment: Mapping[str, str], home: Path, journal: Journal
) -> AsyncIterator[Watched]:
    """Yields once it is ready. At the end its output and all files below `home` are in the
    journal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = {name: home / f"{name}.txt" for name in ("stdout", "stderr")}
    with paths["stdout"].open("wb") as out, paths["stderr"].open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**environment, "GATEWAY_PORT": str(port)},
            stdout=out,
            stderr=err,
        )
    try:
        async with aiohttp.ClientSession() as http:
            served = Watched(process, port, http, journal)
            await eventually_found(
                lambda: _ready(served, paths), READY_SECONDS, "the gateway is ready"
            )
            yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        note_files(home, journal)


def note_files(home: Path, journal: Journal) -> None:
    for path in home.rglob("*"):
        if path.is_file():
            journal.note(f"file: {path.relative_to(home)}", path.read_bytes())


async def _ready(served: Watched, paths: Mapping[str, Path]) -> bool | None:
    if served.process.returncode is not None:
        said = "".join(path.read_text("utf-8", "replace") for path in paths.values())
        raise AssertionError(f"it ended with {served.process.returncode}: {said}")
    with suppress(aiohttp.ClientError):  # it does not listen yet
        async with served.http.get(f"http://127.0.0.1:{served.port}/readyz") as answer:
            return True if answer.status == 200 else None
    return None


def environment_of(settings: Mapping[str, object], home: Path) -> dict[str, str]:
    """Of a process that finds nothing of ours, and writes what is temporary below `home`."""
    given = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    return {"PATH": os.environ["PATH"], "TMPDIR": str(home), **given}
