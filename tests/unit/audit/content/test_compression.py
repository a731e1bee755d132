"""How bodies are stored."""

import os

import orjson
import pytest
import zstandard

from app.audit.content.compression import (
    MAX_BODY_BYTES,
    MIN_COMPRESSED_BYTES,
    BodyUnreadable,
    Encoding,
    compress,
    decompress,
)
from app.settings import Settings


def test_a_long_text_is_stored_shorter_and_comes_back() -> None:
    body = b"the quick brown fox " * 500
    encoding, stored = compress(body)
    assert encoding is Encoding.ZSTD
    assert len(stored) < len(body) / 10
    assert decompress(encoding, stored) == body


def test_a_short_text_stays_as_it_is() -> None:
    body = b"a" * (MIN_COMPRESSED_BYTES - 1)
    assert compress(body) == (Encoding.RAW, body)
    assert compress(body + b"a")[0] is Encoding.ZSTD


def test_what_gets_no_shorter_stays_as_it_is() -> None:
    noise = os.urandom(10_000)
    assert compress(noise) == (Encoding.RAW, noise)


def test_the_longest_body_that_the_edge_may_be_set_to_take_can_be_read_back() -> None:
    bounds = (
        getattr(each, "le", None) for each in Settings.model_fields["max_body_bytes"].metadata
    )
    (most_bytes,) = (bound for bound in bounds if bound is not None)
    sent, stored = b"1e15,", orjson.dumps([1e15, 1e15])[1:-1][: -len(b"1000000000000000.0")]

    assert stored == b"1000000000000000.0,"
    assert most_bytes / len(sent) * len(stored) <= MAX_BODY_BYTES


def test_a_frame_that_would_fill_the_memory_is_refused() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(MAX_BODY_BYTES + 1))
    with pytest.raises(BodyUnreadable, match="are allowed"):
        decompress(Encoding.ZSTD, bomb)


def test_a_frame_that_does_not_say_its_size_is_refused() -> None:
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 1_000)
    with pytest.raises(BodyUnreadable):
        decompress(Encoding.ZSTD, silent)


@pytest.mark.parametrize("stored", [b"", b"no zstd", compress(b"x" * 1_000)[1][:-3]])
def test_what_is_no_frame_is_refused(stored: bytes) -> None:
    with pytest.raises(BodyUnreadable):
        decompress(Encoding.ZSTD, stored)


def test_nothing_may_follow_a_frame() -> None:
    with pytest.raises(BodyUnreadable):
        decompress(Encoding.ZSTD, compress(b"x" * 1_000)[1] + b"more")


@pytest.mark.parametrize("encoding", [Encoding.ERASED, 99])
def test_an_encoding_without_a_body_is_refused(encoding: int) -> None:
    with pytest.raises(BodyUnreadable):
        decompress(encoding, b"")
