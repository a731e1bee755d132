"""A request's body: bounded, whatever it is compressed with.

The bound holds for what arrives and for what it unpacks to. Decompression is incremental, so that
a bomb costs no more than the bound.
"""

import asyncio
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli
import zstandard
from starlette.datastructures import Headers
from starlette.types import Receive

from app.errors import ClientDisconnected, InvalidRequest, RequestTooLarge, UnsupportedMedia

# Larger compressed bodies are unpacked in a thread: the loop has others to serve.
INLINE_COMPRESSED_BYTES = 64 * 1024
UNPACK_STEP_BYTES = 256 * 1024
MAX_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024  # what `zstd --long` uses; the library's own default


async def read_body(headers: Headers, receive: Receive, max_bytes: int) -> bytes:
    """The whole body, unpacked. Raises RequestTooLarge, UnsupportedMedia, InvalidRequest for one
    that is not what it claims to be, or ClientDisconnected."""
    _check_type(headers.get("content-type", ""))
    unpack = _unpacker(headers.get("content-encoding", "identity"))
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected("The client left while it was sending.")
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise too_large(max_bytes)
        parts.append(part)
        more = message.get("more_body", False)
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if unpack is None:
        return body
    if size > INLINE_COMPRESSED_BYTES:
        return await asyncio.to_thread(unpack, body, max_bytes)
    return unpack(body, max_bytes)


def too_large(max_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is larger than {max_bytes} bytes.")


def _check_type(content_type: str) -> None:
    kind, _, parameters = content_type.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMedia("The content type must be application/json.")


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes] | None:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name not in _UNPACKERS:
        raise UnsupportedMedia(
            "The content encoding must be gzip, deflate, br, zstd or identity.",
            code="unsupported_content_encoding",
        )
    return _UNPACKERS[name]


class _Inflater(Protocol):
    """The part of `zlib.decompressobj()` that is needed, whatever library does it."""

    def take(self, data: bytes, limit: int) -> bytes: ...

    @property
    def finished(self) -> bool: ...


def _bounded(make: Callable[[], _Inflater], errors: type[Exception]) -> Callable[..., bytes]:
    def unpack(body: bytes, max_bytes: int) -> bytes:
        inflater = make()
        out: list[bytes] = []
        size = 0
        try:
            data = body
            while not inflater.finished:
                piece = inflater.take(data, UNPACK_STEP_BYTES)
                if not piece and not data:
                    break
                data = b""
                size += len(piece)
                if size > max_bytes:
                    raise too_large(max_bytes)
                out.append(piece)
        except errors:
            raise _corrupt() from None
        if not inflater.finished:
            raise _corrupt()
        return b"".join(out)

    return unpack


def _corrupt() -> InvalidRequest:
    return InvalidRequest(
        "The body is not what its content encoding says.", code="invalid_content_encoding"
    )


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)
        self._tail = b""

    def take(self, data: bytes, limit: int) -> bytes:
        piece = self._stream.decompress(self._tail + data, limit)
        self._tail = self._stream.unconsumed_tail
        return piece

    @property
    def finished(self) -> bool:
        return self._stream.eof


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def take(self, data: bytes, limit: int) -> bytes:
        return bytes(self._stream.process(data, output_buffer_limit=limit))

    @property
    def finished(self) -> bool:
        return bool(self._stream.is_finished())


class _Zstd:
    """zstandard's incremental object bounds no output, so its input comes in slices: a slice
    holds at most 64 blocks of 128 KiB, which is what the bound may be overshot by."""

    SLICE_BYTES = 256

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        self._stream = decompressor.decompressobj()
        self._data = b""
        self._at = 0

    def take(self, data: bytes, limit: int) -> bytes:
        if data:
            self._data = data
        out: list[bytes] = []
        size = 0
        while size < limit and self._at < len(self._data) and not self._stream.eof:
            piece = self._stream.decompress(self._data[self._at : self._at + self.SLICE_BYTES])
            self._at += self.SLICE_BYTES
            size += len(piece)
            out.append(piece)
        return b"".join(out)

    @property
    def finished(self) -> bool:
        return self._stream.eof


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _bounded(lambda: _Zlib(zlib.MAX_WBITS | 16), zlib.error),
    "deflate": _bounded(lambda: _Zlib(zlib.MAX_WBITS), zlib.error),
    "br": _bounded(_Brotli, brotli.error),
    "zstd": _bounded(_Zstd, zstandard.ZstdError),
}
