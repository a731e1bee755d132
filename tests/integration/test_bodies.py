"""Bodies: compressed, too large, or not what they say."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from tests.support.gateway import CHAT, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

MAX_BODY_BYTES = 64 * 1024
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_compressed_body_is_taken(
    encoding: str, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    body = ENCODERS[encoding](chat_body(messages=[{"role": "user", "content": "packed"}]))
    response = await gateway.request(
        "POST", CHAT, body=body, headers={"content-encoding": encoding}
    )
    assert response.status == 200
    assert worker.only.json["messages"][0]["content"] == "packed"


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_gzip_bomb_is_refused_at_the_same_bound(
    encoding: str, start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    """As is every other kind: the bound is one of what is unpacked."""
    gateway = await start_gateway(worker, max_body_bytes=MAX_BODY_BYTES)
    bomb = ENCODERS[encoding](b" " * 50_000_000)
    assert len(bomb) < MAX_BODY_BYTES
    response = await gateway.request(
        "POST", CHAT, body=bomb, headers={"content-encoding": encoding}
    )
    assert (response.status, response.error["code"]) == (413, "request_too_large")
    just = chat_body(messages=[{"role": "user", "content": "x" * (MAX_BODY_BYTES - 200)}])
    response = await gateway.request(
        "POST", CHAT, body=ENCODERS[encoding](just), headers={"content-encoding": encoding}
    )
    assert response.status == 200


async def test_a_body_that_is_not_what_it_says_is_refused(gateway: RunningGateway) -> None:
    for encoding in ENCODERS:
        response = await gateway.request(
            "POST", CHAT, body=chat_body(), headers={"content-encoding": encoding}
        )
        assert (response.status, response.error["code"]) == (400, "invalid_content_encoding")


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "x"])
async def test_another_encoding_is_refused(encoding: str, gateway: RunningGateway) -> None:
    response = await gateway.request(
        "POST", CHAT, body=b"x", headers={"content-encoding": encoding}
    )
    assert (response.status, response.error["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16", ""],
)
async def test_another_content_type_is_refused(kind: str, gateway: RunningGateway) -> None:
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, gateway.key, b"{}", f"content-type: {kind}"))
        head = await client.head()
        assert head.status == 415
        assert (await client.body(head))["error"]["type"] == "invalid_request_error"


async def test_a_large_body_is_refused_by_what_it_declares(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, max_body_bytes=MAX_BODY_BYTES)
    lines = ["host: gateway", f"authorization: Bearer {gateway.key}"]
    lines += ["content-type: application/json", f"content-length: {MAX_BODY_BYTES + 1}", "", ""]
    async with gateway.raw() as client:
        await client.send("\r\n".join([f"POST {CHAT} HTTP/1.1", *lines]).encode())
        head = await client.head()
        assert head.status == 413
        assert (await client.body(head))["error"]["code"] == "request_too_large"
        assert head.headers["connection"] == "close"
        assert await client.at_end()


async def test_a_large_body_without_a_length_is_refused_where_it_passes_the_bound(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, max_body_bytes=MAX_BODY_BYTES)
    lines = ["host: gateway", f"authorization: Bearer {gateway.key}"]
    lines += ["content-type: application/json", "transfer-encoding: chunked", "", ""]
    piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    async with gateway.raw() as client:
        await client.send("\r\n".join([f"POST {CHAT} HTTP/1.1", *lines]).encode())
        await client.send(piece * 5)
        head = await client.head()
        assert (head.status, head.headers["connection"]) == (413, "close")
