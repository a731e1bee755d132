"""No output leaves before the whole body is on disk, and the largest that is taken gets there."""

import asyncio
import gzip
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from app.audit.spool.disk import RealDisk, SegmentFile
from app.settings import MIB
from tests.integration.audit.promises.kept import kept
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 30.0  # only spent on failure
LARGE_WRITE_BYTES = 64 * 1024  # an intent and an outcome are far below it
COMMENT = b": keep-alive\n\n"
COMMENTS = 3
BODIES_AT_ONCE = 12  # 144 MiB, of which 64 may wait
SETTINGS = {
    "audit_write_seconds": 60,
    "commit_after_seconds": 0.05,
    "keep_alive_comment_seconds": 0.05,
}


class BodyHoldingDisk(RealDisk):
    """Lets nothing large through until it is told to."""

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.lets_go = threading.Event()

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        return _HoldingFile(self, super().create_segment(path, size_bytes))


class _HoldingFile:
    def __init__(self, disk: BodyHoldingDisk, file: SegmentFile) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        if len(data) > LARGE_WRITE_BYTES:
            self._disk.holds.set()
            self._disk.lets_go.wait(WITHIN_SECONDS)
        self._file.write(data)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> BodyHoldingDisk:
    disk = BodyHoldingDisk()
    monkeypatch.setattr("app.audit.start.RealDisk", lambda: disk)
    return disk


def incompressible(size_bytes: int, *, seed: int = 7, **fields: object) -> bytes:
    """A request of exactly so many bytes."""

    def body(content: str) -> bytes:
        return chat_body(messages=[{"role": "user", "content": content}], **fields)

    letters = "".join(map(chr, (*range(35, 92), *range(93, 127))))  # none that JSON escapes
    content = "".join(random.Random(seed).choices(letters, k=size_bytes - len(body(""))))
    assert len(body(content)) == size_bytes
    return body(content)


@pytest.mark.parametrize("size_bytes", [200_000, 32 * MIB], ids=["200 kB", "32 MiB"])
async def test_nothing_is_streamed_before_its_body_is_durable(
    holding: BodyHoldingDisk, start_gateway: StartGateway, worker: ScriptedWorker, size_bytes: int
) -> None:
    worker.max_model_len = 100_000_000
    gateway = await start_gateway(worker, **SETTINGS)
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, gateway.key, incompressible(size_bytes, stream=True)))
        request = await worker.received()
        await eventually(lambda: request.completed, WITHIN_SECONDS, "the worker has answered")
        await eventually(holding.holds.is_set, WITHIN_SECONDS, "the body is held")
        assert (await client.head()).status == 200
        for _ in range(COMMENTS):
            assert await client.chunk() == COMMENT
        holding.lets_go.set()
        rest = b"".join(await client.chunks())
    assert b'"role":"assistant"' in rest
    assert b"there." in rest
    assert b"[DONE]" in rest


async def test_nothing_is_folded_before_its_body_is_durable(
    holding: BodyHoldingDisk, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, **SETTINGS)
    asking = asyncio.ensure_future(gateway.request("POST", CHAT, body=incompressible(200_000)))
    request = await worker.received()
    await eventually(lambda: request.completed, WITHIN_SECONDS, "the worker has answered")
    await eventually(holding.holds.is_set, WITHIN_SECONDS, "the body is held")
    assert not asking.done()
    holding.lets_go.set()
    response = await asking
    assert response.message["content"] == "Hello there."
    assert len((await kept(gateway, response.request_id)).messages[0]["content"]) > 199_000


@pytest.mark.parametrize(
    ("name", "compress", "most_bytes"),
    [
        ("identity", bytes, 2 * MIB),
        ("gzip", gzip.compress, 2 * MIB),
        ("zstd", zstandard.ZstdCompressor().compress, 2 * MIB),
        ("identity", bytes, 32 * MIB),
    ],
)
async def test_the_largest_body_is_kept_and_one_byte_more_reaches_no_worker(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    name: str,
    compress: Callable[[bytes], bytes],
    most_bytes: int,
) -> None:
    """In segments of 1 MiB: what is larger has one of its own."""
    worker.max_model_len = 100_000_000
    gateway = await start_gateway(
        worker, max_body_bytes=most_bytes, audit_segment_bytes=MIB, audit_write_seconds=60
    )
    encoding = {"content-encoding": name}
    body = incompressible(most_bytes)
    response = await gateway.request("POST", CHAT, body=compress(body), headers=encoding)
    assert response.status == 200, response.body
    found = await kept(gateway, response.request_id)
    assert found.messages == json.loads(body)["messages"]

    over = incompressible(most_bytes + 1)
    response = await gateway.request("POST", CHAT, body=compress(over), headers=encoding)
    assert response.status == 413
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.content) == ("refused", 413, None)
    assert len(worker.requests) == 1


async def test_more_large_bodies_at_once_than_may_wait_for_the_disk_are_all_kept(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """A busy disk is no reason to refuse: they wait for each other."""
    worker.max_model_len = 100_000_000
    gateway = await start_gateway(worker, audit_write_seconds=60)
    bodies = [incompressible(12 * MIB, seed=number) for number in range(BODIES_AT_ONCE)]
    responses = await asyncio.gather(*(gateway.request("POST", CHAT, body=body) for body in bodies))
    assert [response.status for response in responses] == [200] * BODIES_AT_ONCE
    for response in responses:
        await kept(gateway, response.request_id)
