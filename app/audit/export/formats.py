"""The files of an export: what they are named, how they are written and how they are read."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from app.audit.export.json_lines import decode_line, encode_line
from app.audit.export.parquet import ParquetSink, read_parquet
from app.audit.export.records import ExportUnreadable, Record

FILE_MODE = 0o600  # what was said stands in it
ZSTD_LEVEL = 3
READ_BYTES = 1024 * 1024
# The longest body, of 40 MiB of numbers that JSON writes out, with its escapes.
MAX_LINE_BYTES = 512 * 1024 * 1024
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PARQUET_MAGIC = b"PAR1"


class ExportFormat(StrEnum):
    JSON_LINES = "jsonl"
    COMPRESSED = "jsonl.zst"
    PARQUET = "parquet"


class Sink(Protocol):
    def write(self, record: Record) -> None: ...

    def close(self) -> None:
        """Writes what is missing to make it whole. The file stays open."""


class JsonLinesSink:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: Record) -> None:
        self._file.write(encode_line(record))

    def close(self) -> None:
        pass  # every line is whole


class CompressedSink:
    """JSON lines in one zstd frame."""

    def __init__(self, file: BinaryIO) -> None:
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._stream = compressor.stream_writer(file, closefd=False)

    def write(self, record: Record) -> None:
        self._stream.write(encode_line(record))

    def close(self) -> None:
        self._stream.close()  # type: ignore[no-untyped-call]  # the library's


_SINKS: dict[ExportFormat, Callable[[BinaryIO], Sink]] = {
    ExportFormat.JSON_LINES: JsonLinesSink,
    ExportFormat.COMPRESSED: CompressedSink,
    ExportFormat.PARQUET: ParquetSink,
}


def format_of(path: Path) -> ExportFormat:
    """By the end of its name; JSON lines for any other."""
    for each in (ExportFormat.COMPRESSED, ExportFormat.PARQUET):
        if path.name.endswith(f".{each}"):
            return each
    return ExportFormat.JSON_LINES


@contextmanager
def export_file(path: Path, export_format: ExportFormat) -> Iterator[Sink]:
    """A file for its owner alone, that has its name once it is whole and on disk.

    Raises FileExistsError where there is one of that name, other OSErrors, and ParquetMissing.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            with closing(_SINKS[export_format](file)) as sink:
                yield sink
            file.flush()
            os.fsync(descriptor)
        os.rename(draft, path)
    finally:
        with suppress(FileNotFoundError):  # it was renamed, or never made
            os.unlink(draft)


def read_export(path: Path, progress: Callable[[int], None]) -> Iterator[Record]:
    """Whatever its name is. `progress` is told of bytes.

    Raises ExportUnreadable, OSError and ParquetMissing.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic == _PARQUET_MAGIC:
            yield from read_parquet(path, progress)
            return
        file.seek(0)
        for line in _lines(_chunks(file, magic == _ZSTD_MAGIC, progress)):
            yield decode_line(line)


def _chunks(file: BinaryIO, compressed: bool, progress: Callable[[int], None]) -> Iterator[bytes]:
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(file) if compressed else file
        told = 0
        while chunk := reader.read(READ_BYTES):
            progress(file.tell() - told)
            told = file.tell()
            yield chunk
    except zstandard.ZstdError as error:
        raise ExportUnreadable(f"{file.name}: {error}") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest, size = [], 0
        rest.append(last)
        size += len(last)
        if size > MAX_LINE_BYTES:
            raise ExportUnreadable(f"a line of more than {MAX_LINE_BYTES} bytes")
    if size:
        yield b"".join(rest)
