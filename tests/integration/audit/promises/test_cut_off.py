"""What is kept of an answer that was cut off: by its client, or by the end of its process."""

import sys
from asyncio import IncompleteReadError
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spool.disk import RealDisk
from app.audit.spool.frames import FrameKind
from app.settings import MIB
from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.integration.audit.promises import holding
from tests.integration.audit.promises.asking import spools
from tests.integration.audit.promises.kept import Kept, kept
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, PEPPER, RunningGateway, StartGateway
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import serving
from tests.support.spool_reading import read_segment

WITHIN_SECONDS = 60.0  # only spent on failure
WORDS = [f"word {number} of many, " for number in range(5_000)]
WHOLE = "".join(WORDS)
THOUGHT = "A thought "
ENDLESS = Answer(WORDS, [THOUGHT, "indeed."], pace_seconds=0.002)
SEEN_CHARACTERS = 2_000
MORE_WORDS = 50


class Watching:
    """What a client has seen of a stream."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._raw = b""
        self.request_id = ""

    async def ask(self, key: str) -> None:
        await self._client.post(CHAT, key, {"model": "qwythos", "messages": HELLO, "stream": True})
        head = await self._client.head()
        assert head.status == 200
        self.request_id = head.headers["x-request-id"]

    async def see(self, characters: int) -> None:
        while len(self.text) < characters:
            self._raw += await self._client.chunk()

    async def see_the_rest(self) -> None:
        """Of a connection that has broken: what had arrived before."""
        with suppress(IncompleteReadError, ConnectionResetError):  # which is its end
            while piece := await self._client.chunk():
                self._raw += piece

    @property
    def text(self) -> str:
        """Of the events that have come whole."""
        events = [line for line in self._raw.split(b"\n") if line.startswith(b"data: {")]
        choices = (orjson.loads(line[len(b"data: ") :])["choices"] for line in events)
        return "".join(one[0]["delta"].get("content") or "" for one in choices if one)


def has_chunk(root: Path) -> bool:
    """Whether a recovery would find one."""
    (spool,) = spools(root)
    frames = read_segment(RealDisk(), root / spool, 1, end=MIB)
    return any(frame.kind == FrameKind.CHUNK for frame in frames)


async def recorded_crash(
    worker: ScriptedWorker, start_gateway: StartGateway, root: Path, request_id: str
) -> Kept:
    """What another gateway has kept of an answer whose process died."""
    gateway = await start_gateway(worker, audit_directory=root)
    await eventually(lambda: len(spools(root)) == 1, WITHIN_SECONDS, "it is taken over")
    row = await gateway.audited(request_id)
    assert (row.outcome, row.status) == ("crashed", 500)
    return await kept(gateway, request_id)


@pytest.fixture
async def keys(engine: AsyncEngine) -> KeyStore:
    return KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)


@pytest.mark.usefixtures("quick_look")
async def test_after_a_crash_the_text_up_to_the_last_chunk_is_there(
    database_url: str,
    worker: ScriptedWorker,
    start_gateway: StartGateway,
    keys: KeyStore,
    root: Path,
) -> None:
    worker.answers(ENDLESS)
    policy = Policy(audit="full+reasoning")
    key = (await keys.create(KeyDraft(name="test", policy=policy))).secret
    async with (
        serving(database_url, worker, audit_directory=root, audit_chunk_seconds=0.05) as served,
        connected(served.port) as client,
    ):
        watching = Watching(client)
        await watching.ask(key)
        await watching.see(SEEN_CHARACTERS)
        await eventually(lambda: has_chunk(root), WITHIN_SECONDS, "a chunk of it is written")
        served.process.kill()
        await served.process.wait()
    found = await recorded_crash(worker, start_gateway, root, watching.request_id)
    assert found.partial
    assert found.messages == HELLO
    assert found.parameters == {"model": "qwythos", "stream": True}
    text = found.answers["0"]["content"]
    assert text
    assert WHOLE.startswith(text)
    assert WHOLE.startswith(watching.text)
    assert found.answers["0"]["reasoning"].startswith(THOUGHT)


@pytest.mark.usefixtures("quick_look")
async def test_after_a_crash_strict_has_all_that_its_client_saw(
    database_url: str,
    worker: ScriptedWorker,
    start_gateway: StartGateway,
    keys: KeyStore,
    root: Path,
    tmp_path: Path,
) -> None:
    """Its disk stands still before it dies, while its worker goes on."""
    worker.answers(ENDLESS)
    key = (await keys.create(KeyDraft(name="test"))).secret
    stand = tmp_path / "stand"
    program = (sys.executable, "-m", holding.__name__, "write", str(stand))
    settings = {"audit_directory": root, "audit_strict": True, "audit_write_seconds": 600}
    async with (
        serving(database_url, worker, program=program, **settings) as served,
        connected(served.port) as client,
    ):
        watching = Watching(client)
        await watching.ask(key)
        await watching.see(SEEN_CHARACTERS)
        stand.touch()
        held = stand.with_suffix(".held")
        await eventually(held.exists, WITHIN_SECONDS, "the disk stands still")
        said = worker.only.events_sent + MORE_WORDS
        await eventually(lambda: worker.only.events_sent > said, WITHIN_SECONDS, "more is said")
        served.process.kill()
        await served.process.wait()
        await watching.see_the_rest()
    found = await recorded_crash(worker, start_gateway, root, watching.request_id)
    assert found.partial
    assert found.messages == HELLO
    assert len(watching.text) >= SEEN_CHARACTERS
    assert found.answers["0"]["content"].startswith(watching.text)
    assert WHOLE.startswith(found.answers["0"]["content"])


@pytest.mark.parametrize("strict", [False, True])
async def test_a_client_that_leaves_has_all_that_it_saw_on_record(
    start_gateway: StartGateway, worker: ScriptedWorker, strict: bool
) -> None:
    worker.answers(ENDLESS)
    gateway: RunningGateway = await start_gateway(worker, audit_strict=strict)
    async with gateway.raw() as client:
        watching = Watching(client)
        await watching.ask(gateway.key)
        await watching.see(SEEN_CHARACTERS)
        client.leave()
        row = await gateway.audited(watching.request_id)
    assert row.outcome == "cancelled"
    found = await kept(gateway, watching.request_id)
    assert not found.partial
    assert found.answers["0"]["content"].startswith(watching.text)
    assert WHOLE.startswith(found.answers["0"]["content"])
