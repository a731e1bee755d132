"""An export as Parquet: one table, in which `type` says what a row is.

For tools that read columns. What a request was, and how it ended, stands in columns of its own, as
the payload says it. `pyarrow` is an extra: 150 MB, for whoever wants it.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from app.audit.content.compression import Encoding
from app.audit.content.nodes import StoredMessage
from app.audit.export.json_lines import decode_line, encode_line
from app.audit.export.records import (
    End,
    ExportedMessage,
    ExportUnreadable,
    Manifest,
    PublishedCheckpoint,
    Record,
)
from app.audit.log_reader import microseconds_of
from app.audit.projection import COLUMNS, columns_of
from app.audit.stored import moment_of
from app.audit.verify.evidence import RegisterRow, StoredEvent

GROUP_ROWS = 10_000
GROUP_BYTES = 32 * 1024 * 1024  # of long values in memory, until they are a row group
BATCH_ROWS = 1_000  # at a time, of those that are read

_TEXTS = ("type", "writer", "tenant")
_BINARY = ("hash", "payload", "payload_sha256", "entry", "address", "parent", "salt", "body")
_INTEGERS = ("number", "sequence", "kind", "status", "charged_tokens")
_TIMES = ("recorded_at", "received_at", "settled_at")
_LONG = ("payload", "entry", "body")

_Row = Mapping[str, Any]


class ParquetMissing(Exception):
    """The text says what to install."""


def load_pyarrow() -> Any:
    """With its module `parquet`. Raises ParquetMissing."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise ParquetMissing(
            "Parquet needs the package pyarrow: pip install 'qwythos-gateway[parquet]'"
        ) from None


class ParquetSink:
    """Row groups as they fill; `close` writes what makes it a file."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises ParquetMissing."""
        self._pyarrow = load_pyarrow()
        self._schema = _schema(self._pyarrow)
        self._writer = self._pyarrow.parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[_Row] = []
        self._bytes = 0

    def write(self, record: Record) -> None:
        row = _ROWS[type(record)](record)
        self._rows.append(row)
        self._bytes += sum(len(row.get(name) or b"") for name in _LONG)
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            table = self._pyarrow.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table)
            self._rows, self._bytes = [], 0


def read_parquet(path: Path, progress: Callable[[int], None]) -> Iterator[Record]:
    """`progress` is told of bytes. Raises ParquetMissing, ExportUnreadable and OSError."""
    pyarrow = load_pyarrow()
    size = path.stat().st_size
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    yield _record(row)
                progress(size * batch.num_rows // rows)
    except (pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ExportUnreadable(f"{path}: {error}") from error


def _schema(pyarrow: Any) -> Any:
    kinds = {
        **dict.fromkeys(_TEXTS, pyarrow.string()),
        "number": pyarrow.int64(),
        "sequence": pyarrow.int64(),
        "recorded_at": pyarrow.timestamp("us", "UTC"),
        "kind": pyarrow.int64(),
        **{name: pyarrow.string() for name in COLUMNS},
        **dict.fromkeys(_INTEGERS, pyarrow.int64()),
        **dict.fromkeys(_TIMES, pyarrow.timestamp("us", "UTC")),
        **dict.fromkeys(_BINARY, pyarrow.large_binary()),
        "stored_on": pyarrow.date32(),
        "erased": pyarrow.bool_(),
    }
    return pyarrow.schema(list(kinds.items()))


# -- rows of records, and records of rows


def _json_row(kind: str) -> Callable[[Record], _Row]:
    return lambda record: {"type": kind, "payload": encode_line(record).rstrip()}


def _register_row(record: RegisterRow) -> _Row:
    return {
        "type": "register",
        "number": record.number,
        "writer": record.writer,
        "entry": record.entry,
        "hash": record.hash,
    }


def _event_row(record: StoredEvent) -> _Row:
    columns = {} if record.payload is None else columns_of(record.kind, record.payload)
    return {
        **columns,
        "type": "event",
        "writer": record.writer,
        "sequence": record.sequence,
        "recorded_at": moment_of(record.at),
        "kind": record.kind,
        "hash": record.hash,
        "payload": record.payload,
        "payload_sha256": record.digest,
    }


def _message_row(record: ExportedMessage) -> _Row:
    message = record.message
    return {
        "type": "message",
        "stored_on": record.stored_on,
        "tenant": message.tenant,
        "address": message.address,
        "parent": message.parent,
        "salt": message.salt,
        "body": message.body,
        "erased": message.erased,
    }


_ROWS: dict[type, Callable[[Any], _Row]] = {
    Manifest: _json_row("manifest"),
    End: _json_row("end"),
    PublishedCheckpoint: lambda record: {"type": "checkpoint", "payload": record.payload},
    RegisterRow: _register_row,
    StoredEvent: _event_row,
    ExportedMessage: _message_row,
}


def _record(row: _Row) -> Record:
    kind = row["type"]
    if kind in ("manifest", "end"):
        return decode_line(row["payload"])
    if kind == "checkpoint":
        return PublishedCheckpoint(row["payload"])
    if kind == "register":
        return RegisterRow(row["number"], row["writer"], row["entry"], row["hash"])
    if kind == "event":
        return _event(row)
    if kind == "message":
        encoding = Encoding.ERASED if row["erased"] else Encoding.RAW
        return ExportedMessage(
            row["stored_on"],
            StoredMessage(
                row["tenant"], row["address"], row["parent"], row["salt"], encoding, row["body"]
            ),
        )
    raise ExportUnreadable(f"a row of type {kind!r}")


def _event(row: _Row) -> StoredEvent:
    payload = row["payload"]
    return StoredEvent(
        row["writer"],
        row["sequence"],
        microseconds_of(row["recorded_at"]),
        row["kind"],
        row["hash"],
        row["payload_sha256"] if payload is None else sha256(payload).digest(),
        payload,
    )
