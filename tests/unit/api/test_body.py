"""A request's body: bounded, whatever it is compressed with."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from starlette.datastructures import Headers

from app.api.body import read_body
from app.errors import ClientDisconnected, InvalidRequest, RequestTooLarge, UnsupportedMedia

TEXT = b'{"a":"' + b"xyz" * 300_000 + b'"}'  # larger than a step of unpacking
BOUND = 1_000_000
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=4)),
    "zstd": zstandard.compress,
}


async def read(*parts: bytes, bound: int = BOUND, gone: bool = False, **headers: str) -> bytes:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    if gone:
        messages.append({"type": "http.disconnect"})
    elif messages:
        messages[-1]["more_body"] = False
    fields = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return await read_body(Headers(fields), receive, bound)


async def test_the_parts_of_a_body_are_joined() -> None:
    assert await read(b"ab", b"", b"cd") == b"abcd"


async def test_a_body_over_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(RequestTooLarge):
        await read(content_length=str(BOUND + 1))  # no message is there to be received


async def test_a_body_that_lies_about_its_length_is_refused_at_the_bound() -> None:
    with pytest.raises(RequestTooLarge):
        await read(b"x" * 60, b"x" * 60, b"x" * 60, bound=100)


@pytest.mark.parametrize("encoding", PACKERS)
async def test_a_compressed_body_is_unpacked(encoding: str) -> None:
    packed = PACKERS[encoding](TEXT)
    assert await read(packed, content_encoding=encoding) == TEXT


@pytest.mark.parametrize("encoding", PACKERS)
async def test_a_bomb_is_refused_at_the_same_bound(encoding: str) -> None:
    packed = PACKERS[encoding](b"0" * 50_000_000)
    with pytest.raises(RequestTooLarge):
        await read(packed, content_encoding=encoding)


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("damage", ["garbage", "cut", "half", "empty"])
async def test_a_damaged_body_is_refused(encoding: str, damage: str) -> None:
    packed = PACKERS[encoding](TEXT)
    data = {
        "garbage": b"garbage",
        "cut": packed[:-5],
        "half": packed[: len(packed) // 2],
        "empty": b"",
    }[damage]
    with pytest.raises(InvalidRequest) as caught:
        await read(data, content_encoding=encoding)
    assert caught.value.code == "invalid_content_encoding"


@pytest.mark.parametrize("encoding", ["gzip, gzip", "compress", "utf-8"])
async def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UnsupportedMedia):
        await read(b"{}", content_encoding=encoding)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "application/json; charset=utf-16"]
)
async def test_only_json_is_read(kind: str) -> None:
    with pytest.raises(UnsupportedMedia):
        await read(b"{}", content_type=kind)


async def test_a_charset_of_utf_8_is_json() -> None:
    assert await read(b"{}", content_type='application/json; charset="UTF-8"') == b"{}"


async def test_a_client_that_leaves_while_it_sends_is_gone() -> None:
    with pytest.raises(ClientDisconnected):
        await read(b"{", gone=True)
