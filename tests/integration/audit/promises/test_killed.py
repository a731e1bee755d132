"""A gateway that is killed at the worst moments, and what another makes of what it has left."""

import asyncio
import os
import resource
import signal
import sys
from asyncio import IncompleteReadError
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.checkpoint import parse_checkpoint
from tests.integration.audit.promises.asking import (
    COMPLETED,
    CRASHED,
    WITHIN_SECONDS,
    ends,
    spools,
)
from tests.integration.cli.test_serve import children, status_of
from tests.support.answers import Answer, Break, End
from tests.support.conditions import eventually, eventually_found
from tests.support.gateway import CHAT, HELLO, RunningGateway, StartGateway, new_key
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ReceivedRequest, ScriptedWorker
from tests.support.serving import Serving, serving

READING = Answer(breaks=Break(End.HANG, 0))
TALKING = Answer(["word "] * 5, breaks=Break(End.HANG, 3))
# Time for the test to bring the disk to a stand between the intent and the first token.
ENDING = Answer(["All", " of", " it"], prefill_seconds=0.3)


@pytest.fixture
async def key(engine: AsyncEngine) -> str:
    return await new_key(engine)


def id_of(request: ReceivedRequest) -> str:
    request_id = request.header("x-request-id")
    assert request_id is not None
    return request_id


async def taken_over(root: Path, by: RunningGateway) -> None:
    """Returns once nothing is left but what the one that runs has."""
    await eventually(
        lambda: len(spools(root)) == 1, WITHIN_SECONDS, "what was left is shipped and removed"
    )
    assert by.app.state.gateway.audit.accepting


def closed_chains(root: Path) -> set[str]:
    """Their writers, as the second place says."""
    lines = (root / "checkpoints.jsonl").read_bytes().splitlines()
    checkpoints = [parse_checkpoint(line) for line in lines]
    return {each.writer for each in checkpoints if each.closed}


async def ask(client: RawClient, key: str, *, stream: bool = True) -> None:
    await client.post(CHAT, key, {"model": "qwythos", "messages": HELLO, "stream": stream})


async def what_comes(client: RawClient, so_far: bytearray) -> None:
    """Until the connection breaks."""
    with suppress(IncompleteReadError, ConnectionResetError):  # which is what is waited for
        while piece := await client.chunk():
            so_far += piece


async def check_without_disk(served: Serving, key: str, worker: ScriptedWorker) -> None:
    """While it may write no file it serves nobody. Returns once it has recovered by itself."""
    pid = served.process.pid
    async with connected(served.port) as client:
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        for _ in range(3):
            await ask(client, key, stream=False)
            head = await client.head()
            assert head.status == 503
            assert (await client.body(head))["error"]["code"] == "audit_unavailable"
        assert worker.requests == []

    async def ready() -> bool | None:
        return await status_of(served, "/readyz") == 200 or None

    assert await ready() is None
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    await eventually_found(ready, WITHIN_SECONDS, "it is ready again")


@pytest.mark.usefixtures("quick_look")
@pytest.mark.parametrize(
    ("moment", "end", "other_first"),
    [("write", CRASHED, True), ("sync", COMPLETED, False)],
    ids=["before its record is written", "before its record is synced"],
)
async def test_each_request_of_a_killed_process_has_one_end(
    moment: str,
    end: tuple[str, int, str | None],
    other_first: bool,
    engine: AsyncEngine,
    database_url: str,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    key: str,
    root: Path,
    tmp_path: Path,
) -> None:
    stand = tmp_path / "stand"
    module = "tests.integration.audit.promises.holding"
    program = (sys.executable, "-m", module, moment, str(stand))
    async with AsyncExitStack() as stack:
        if other_first:
            other = await start_gateway(worker, audit_directory=root)
        served = await stack.enter_async_context(
            serving(
                database_url,
                worker,
                program=program,
                audit_directory=root,
                audit_write_seconds=600,
                # Where the disk stands still, nothing else has come before the record of the end.
                audit_chunk_seconds=600,
                audit_checkpoint_seconds=600,
            )
        )
        if hasattr(resource, "prlimit"):  # on Linux alone one process can limit another
            await check_without_disk(served, key, worker)
        whole, reading, talking, ending = [
            await stack.enter_async_context(connected(served.port)) for _ in range(4)
        ]
        await ask(whole, key, stream=False)
        head = await whole.head()
        assert head.status == 200
        worker.answers(READING)
        await ask(reading, key)
        in_prefill = id_of(await worker.received(2))
        worker.answers(TALKING)
        await ask(talking, key)
        in_stream = id_of(await worker.received(3))
        await talking.head()
        assert await talking.chunk()

        worker.answers(ENDING)
        await ask(ending, key)
        at_end = await worker.received(4)
        stand.touch()
        seen = bytearray()
        await ending.head()
        watching = asyncio.ensure_future(what_comes(ending, seen))
        stack.callback(watching.cancel)
        await eventually(stand.with_suffix(".held").exists, WITHIN_SECONDS, "the disk is held")
        await eventually(lambda: b"All" in seen, WITHIN_SECONDS, "tokens have come")
        assert at_end.completed

        served.process.kill()
        await watching
        assert b"[DONE]" not in seen
        assert b'"finish_reason":"stop"' not in seen
        if not other_first:
            other = await start_gateway(worker, audit_directory=root)
        await taken_over(root, other)
        # In the second place, too: or all since its last checkpoint there could be cut off unseen.
        await eventually(
            lambda: bool(closed_chains(root)), WITHIN_SECONDS, "its chain is closed there"
        )
        assert closed_chains(root).isdisjoint(spools(root))
    found = await ends(engine)
    assert found == {
        head.headers["x-request-id"]: COMPLETED,
        in_prefill: CRASHED,
        in_stream: CRASHED,
        id_of(at_end): end,
    }


async def test_processes_have_a_spool_each_and_an_orderly_end_leaves_nothing(
    engine: AsyncEngine, database_url: str, worker: ScriptedWorker, key: str, root: Path
) -> None:
    asked = 0

    async def served_by_all(served: Serving) -> list[str]:
        """Whichever process takes a connection."""
        nonlocal asked
        for _ in range(10):
            async with connected(served.port) as client:
                await ask(client, key, stream=False)
                assert (await client.head()).status == 200
            asked += 1
        return spools(root)

    async with serving(
        database_url, worker, "--processes", "2", audit_directory=root, audit_flush_seconds=60
    ) as served:
        before = await children(served)
        # It is ready as soon as one of them is.
        await eventually(lambda: len(spools(root)) == 2, WITHIN_SECONDS, "both have a spool")
        found = await served_by_all(served)
        assert len(found) == 2
        os.kill(before[0], signal.SIGKILL)  # idle, and nothing of it is in the database

        async def replaced() -> bool | None:
            now = spools(root)
            return (len(now) == 2 and now != found) or None

        await eventually_found(replaced, WITHIN_SECONDS, "its spool is gone, another one is there")
        await served_by_all(served)
        served.terminate()
        assert await served.exit_code() == 0
    assert spools(root) == []
    assert list((await ends(engine)).values()) == [COMPLETED] * asked
