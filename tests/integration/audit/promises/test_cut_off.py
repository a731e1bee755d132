"""What is kept of an answer that was cut off: by its client, or by the end of its process."""

from pathlib import Path

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.integration.audit.promises.asking import spools
from tests.integration.audit.promises.kept import Kept, kept
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, HELLO, PEPPER, RunningGateway, StartGateway
from tests.support.raw_client import RawClient, connected
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import serving

WITHIN_SECONDS = 20.0  # only spent on failure
WORDS = [f"word {number} of many, " for number in range(5_000)]
WHOLE = "".join(WORDS)
THOUGHT = "A thought "
ENDLESS = Answer(WORDS, [THOUGHT, "indeed."], pace_seconds=0.002)
SEEN_CHARACTERS = 2_000


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

    @property
    def text(self) -> str:
        """Of the events that have come whole."""
        events = [line for line in self._raw.split(b"\n") if line.startswith(b"data: {")]
        choices = (orjson.loads(line[len(b"data: ") :])["choices"] for line in events)
        return "".join(one[0]["delta"].get("content") or "" for one in choices if one)


async def recovered(
    database_url: str,
    worker: ScriptedWorker,
    start_gateway: StartGateway,
    key: str,
    root: Path,
    **settings: object,
) -> tuple[Kept, str]:
    """What is kept of an answer in the middle of which its process was killed, and what its client
    had seen of it."""
    async with (
        serving(database_url, worker, **{"audit_directory": root} | settings) as served,  # type: ignore[arg-type]  # none is `program`
        connected(served.port) as client,
    ):
        watching = Watching(client)
        await watching.ask(key)
        await watching.see(SEEN_CHARACTERS)
        served.process.kill()
        await served.process.wait()
    gateway = await start_gateway(worker, audit_directory=root)
    await eventually(lambda: len(spools(root)) == 1, WITHIN_SECONDS, "it is taken over")
    row = await gateway.audited(watching.request_id)
    assert (row.outcome, row.status) == ("crashed", 500)
    return await kept(gateway, watching.request_id), watching.text


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
    found, seen = await recovered(
        database_url, worker, start_gateway, key, root, audit_chunk_seconds=0.05
    )
    assert found.partial
    assert found.messages == HELLO
    assert found.parameters == {"model": "qwythos", "stream": True}
    text = found.answers["0"]["content"]
    assert text
    assert WHOLE.startswith(text)
    assert WHOLE.startswith(seen)
    assert found.answers["0"]["reasoning"].startswith(THOUGHT)


@pytest.mark.usefixtures("quick_look")
async def test_after_a_crash_strict_has_all_that_its_client_saw(
    database_url: str,
    worker: ScriptedWorker,
    start_gateway: StartGateway,
    keys: KeyStore,
    root: Path,
) -> None:
    worker.answers(ENDLESS)
    key = (await keys.create(KeyDraft(name="test"))).secret
    found, seen = await recovered(database_url, worker, start_gateway, key, root, audit_strict=True)
    assert found.partial
    assert found.messages == HELLO
    assert len(seen) >= SEEN_CHARACTERS
    assert found.answers["0"]["content"].startswith(seen)
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
