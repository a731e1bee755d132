"""A scripted worker in a process of its own, which can be killed and stopped as a real one.

Run as a program it serves, and says its address on the first line; `WorkerProcess` runs it so.
"""

import asyncio
import json
import os
import signal
import sys
import time
from types import TracebackType
from typing import Self

from tests.support.answers import Answer
from tests.support.scripted_worker import ScriptedWorker

START_SECONDS = 60.0  # for Python and its imports on a busy machine; only spent on failure


class WorkerProcess:
    """`async with WorkerProcess(...) as worker`: it answers all alike, `pieces` words, in the given
    times. Started again, it has the address that it had."""

    def __init__(
        self, *, pieces: int = 2, prefill_seconds: float = 0.0, pace_seconds: float = 0.0
    ) -> None:
        self._script = {
            "pieces": pieces,
            "prefill_seconds": prefill_seconds,
            "pace_seconds": pace_seconds,
        }
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self.kill()

    async def start(self) -> None:
        port = int(self.url.rpartition(":")[2] or 0)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.worker_process",
            json.dumps(self._script | {"port": port}),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            self.url = (await self._process.stdout.readline()).decode().strip()
        assert self.url, "the worker's process did not start"

    async def kill(self) -> None:
        """Without a word, as the kernel does where memory is short."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        await process.wait()

    def stop(self) -> None:
        """It does nothing more, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def settings(self) -> dict[str, object]:
        return {"url": self.url}


async def _serve(script: dict[str, float]) -> None:
    async with ScriptedWorker(port=int(script["port"])) as worker:
        worker.started_at = time.time()
        worker.answers(
            Answer(
                ["word "] * int(script["pieces"]),
                prefill_seconds=script["prefill_seconds"],
                pace_seconds=script["pace_seconds"],
            )
        )
        sys.stdout.write(f"{worker.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
