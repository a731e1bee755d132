"""A disk that fails again and again while large bodies and long answers are under way."""

import errno
import random
from asyncio import TaskGroup
from collections import Counter
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.spool.writer import SpoolWriter
from app.settings import MIB
from tests.integration.audit.promises.asking import WITHIN_SECONDS, spools, until_ready
from tests.integration.audit.promises.whole_log import read_log
from tests.integration.audit.promises.witnesses import Serving, Witnesses
from tests.integration.audit.replica import TABLES, tamper, verified
from tests.support.answers import Answer
from tests.support.conditions import eventually, eventually_found
from tests.support.faulty_disk import FaultyDisk, Operation
from tests.support.gateway import PEPPER, RunningGateway, running_gateway
from tests.support.scripted_worker import ScriptedWorker

SEED = 11
CLIENTS = 6
MAX_CHARACTERS = 500_000  # of a question; with its history a body has up to some MiB
MAX_SIGHTS = 50  # while a disk fails, and again until it fails next
MAX_ANSWERS = 1_000  # more than are asked for
LATER_SECONDS = 7_200.0  # by then all that no checkpoint covers is found
FOREVER = float("inf")
FAULTS = (
    (Operation.WRITE, errno.EIO, 1),
    (Operation.WRITE, errno.EIO, FOREVER),
    (Operation.WRITE, errno.ENOSPC, 3),
    (Operation.WRITE, errno.ENOSPC, FOREVER),
    (Operation.SYNC, errno.EIO, 2),
    (Operation.SYNC, errno.EIO, FOREVER),
    (Operation.CREATE, errno.ENOSPC, 2),
    (Operation.CREATE, errno.ENOSPC, FOREVER),
    (Operation.CREATE, errno.EIO, FOREVER),
)
SETTINGS = {
    "audit_write_seconds": 1.0,  # held for longer, it hangs
    "audit_chunk_seconds": 0.02,
    "audit_checkpoint_seconds": 0.2,
}


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has failed is tried again within moments."""
    monkeypatch.setattr("app.audit.start.SpoolWriter", partial(SpoolWriter, retry_seconds=0.05))


def answer(number: int, text: str, chance: random.Random) -> Answer:
    """Unlike any other, with up to a million characters of `text`."""
    pieces = [f"Answer {number}: "]
    for _ in range(30):
        size = chance.choice([5, 500, 50_000])
        start = chance.randrange(len(text) - size)
        pieces.append(text[start : start + size])
    return Answer(pieces, pace_seconds=chance.choice([0, 0.005, 0.02]))


async def fail_again_and_again(
    disk: FaultyDisk, gateway: RunningGateway, clients: Witnesses, chance: random.Random
) -> None:
    """At the end all is well."""

    async def sights() -> None:
        enough = clients.sights + chance.randrange(MAX_SIGHTS)
        await eventually(lambda: clients.sights >= enough, WITHIN_SECONDS, "clients see something")

    async def refusals() -> None:
        enough = clients.refusals.total() + 2 * CLIENTS
        await eventually(
            lambda: clients.refusals.total() >= enough, WITHIN_SECONDS, "clients are refused"
        )

    for operation, error_number, times in chance.sample(FAULTS, k=len(FAULTS)):
        await sights()
        disk.fail(operation, error_number, times=times)
        await (refusals() if times == FOREVER else sights())
        disk.heal()
        await until_ready(gateway)
        with disk.hold_syncs():
            await sights()
        await until_ready(gateway)


@pytest.fixture(autouse=True)
async def empty_log(engine: AsyncEngine) -> None:
    await tamper(engine, f"TRUNCATE {TABLES}")


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
async def test_nobody_has_seen_what_the_log_does_not_have_however_often_the_disk_fails(
    strict: bool,
    disk: FaultyDisk,
    database_url: str,
    engine: AsyncEngine,
    worker: ScriptedWorker,
    root: Path,
) -> None:
    chance = random.Random(SEED)
    text = "".join(chance.choices("abcdefghij ", k=200_000))  # no loop that would be cut off
    answers = [answer(number, text, chance) for number in range(MAX_ANSWERS)]
    worker.max_model_len = 100_000_000
    worker.answers(*answers)
    async with running_gateway(
        database_url,
        [worker],
        audit_directory=root,
        audit_segment_bytes=MIB,
        audit_strict=strict,
        **SETTINGS,
    ) as gateway:

        async def serves() -> bool | None:
            """The real disk, with all that was written, may be slow for a while."""
            return True if (await gateway.chat()).status == 200 else None

        clients = Witnesses(gateway.key, chance, MAX_CHARACTERS)
        clients.serving.append(Serving(gateway.url, strict))
        async with aiohttp.ClientSession() as http, TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(clients.talk(http))
            await fail_again_and_again(disk, gateway, clients, chance)
            clients.stopped = True
        await eventually_found(serves, WITHIN_SECONDS, "it serves")
    assert disk.misused == []
    assert spools(root) == []  # with all shipped; no request is left to a recovery

    assert clients.refusals.keys() == {"audit_unavailable"}
    said = zip(worker.requests, answers, strict=False)
    at_worker = {str(request.header("x-request-id")): "".join(one.content) for request, one in said}
    logged = await read_log(engine)
    assert logged.keys() >= at_worker.keys()
    for request_id, one in logged.items():
        assert (len(one.intents), len(one.outcomes)) == (1, 1)
        assert at_worker.get(request_id, "").startswith(one.answer)
    for request_id, seen in clients.seen.items():
        one, whole = logged[request_id], at_worker[request_id]
        if seen.any_output:
            assert one.asked == seen.asked
            assert one.answer.startswith(seen.text)
        if seen.ended:
            assert one.end == "completed"
            assert one.answer == seen.text == whole
    keys = derived_signing_keys(PEPPER.encode()).public_keys
    report = await verified(engine, root, keys=keys, later_seconds=LATER_SECONDS)
    assert report.findings.in_order() == []
    assert report.not_covered == []
    # The faults were where they hurt.
    ends = Counter(seen.ended for seen in clients.seen.values())
    assert ends[True] > len(FAULTS)
    assert ends[False] > 0
