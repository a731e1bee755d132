"""An export as JSON, one record a line. Nothing here does I/O.

Bytes that are text stand as text, for people and for `jq`; others as base64, under a name that says
so; hashes and addresses in hexadecimal digits. Times are to the microsecond, as they are hashed.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

import orjson

from app.audit.chain import ChainHead
from app.audit.content.compression import Encoding
from app.audit.content.nodes import StoredMessage
from app.audit.export.records import (
    FORMAT,
    End,
    ExportedMessage,
    ExportUnreadable,
    Manifest,
    PublishedCheckpoint,
    Record,
)
from app.audit.log_reader import microseconds_of
from app.audit.stored import moment_of
from app.audit.verify.evidence import RegisterRow, StoredEvent

_Values = Mapping[str, Any]


def encode_line(record: Record) -> bytes:
    """With its line end."""
    return orjson.dumps(_WRITERS[type(record)](record)) + b"\n"


def decode_line(line: bytes) -> Record:
    """Raises ExportUnreadable."""
    try:
        values = orjson.loads(line)
        return _READERS[values["type"]](values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ExportUnreadable(f"a line that is no record of an export: {reason}") from error


# -- writing


def _manifest(record: Manifest) -> _Values:
    return {
        "type": "manifest",
        "format": FORMAT,
        "made_at": record.made_at,
        "version": record.version,
        "since": record.since,
        "until": record.until,
        "tenant": record.tenant,
        "key": record.key,
        "content": record.content,
        "public_keys": list(record.public_keys),
        "shipped": {
            writer: [head.sequence, head.hash.hex()] for writer, head in record.shipped.items()
        },
    }


def _register_row(record: RegisterRow) -> _Values:
    return {
        "type": "register",
        "number": record.number,
        "writer": record.writer,
        "hash": record.hash.hex(),
        **_bytes("entry", record.entry),
    }


def _published(record: PublishedCheckpoint) -> _Values:
    return {"type": "checkpoint", **_bytes("payload", record.payload)}


def _event(record: StoredEvent) -> _Values:
    if record.payload is None:
        payload: _Values = {"payload_sha256": record.digest.hex()}
    else:
        payload = _bytes("payload", record.payload)
    return {
        "type": "event",
        "writer": record.writer,
        "sequence": record.sequence,
        "recorded_at": moment_of(record.at).isoformat(timespec="microseconds"),
        "kind": record.kind,
        "hash": record.hash.hex(),
        **payload,
    }


def _message(record: ExportedMessage) -> _Values:
    message = record.message
    values = {
        "type": "message",
        "stored_on": record.stored_on.isoformat(),
        "tenant": message.tenant,
        "address": message.address.hex(),
        "parent": message.parent.hex(),
    }
    if message.erased:
        return values | {"erased": True}
    return values | {"salt": message.salt.hex(), **_bytes("body", message.body)}


def _end(record: End) -> _Values:
    return {
        "type": "end",
        "events": record.events,
        "messages": record.messages,
        "register": record.register,
        "checkpoints": record.checkpoints,
    }


def _bytes(name: str, value: bytes) -> _Values:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


_WRITERS: dict[type, Callable[[Any], _Values]] = {
    Manifest: _manifest,
    RegisterRow: _register_row,
    PublishedCheckpoint: _published,
    StoredEvent: _event,
    ExportedMessage: _message,
    End: _end,
}


# -- reading


def _read_manifest(values: _Values) -> Manifest:
    if values["format"] != FORMAT:
        raise ExportUnreadable(f"an export of format {values['format']!r}; {FORMAT} is known")
    return Manifest(
        made_at=str(values["made_at"]),
        version=str(values["version"]),
        since=values["since"],
        until=values["until"],
        tenant=values["tenant"],
        key=values["key"],
        content=values["content"] is True,
        public_keys=tuple(values["public_keys"]),
        shipped={
            writer: ChainHead(int(sequence), bytes.fromhex(digest))
            for writer, (sequence, digest) in values["shipped"].items()
        },
    )


def _read_register_row(values: _Values) -> RegisterRow:
    return RegisterRow(
        int(values["number"]),
        str(values["writer"]),
        _read_bytes("entry", values),
        bytes.fromhex(values["hash"]),
    )


def _read_event(values: _Values) -> StoredEvent:
    if "payload_sha256" in values:
        payload, digest = None, bytes.fromhex(values["payload_sha256"])
    else:
        payload = _read_bytes("payload", values)
        digest = sha256(payload).digest()
    return StoredEvent(
        str(values["writer"]),
        int(values["sequence"]),
        microseconds_of(datetime.fromisoformat(values["recorded_at"]).astimezone(UTC)),
        int(values["kind"]),
        bytes.fromhex(values["hash"]),
        digest,
        payload,
    )


def _read_message(values: _Values) -> ExportedMessage:
    erased = values.get("erased") is True
    return ExportedMessage(
        date.fromisoformat(values["stored_on"]),
        StoredMessage(
            tenant=str(values["tenant"]),
            address=bytes.fromhex(values["address"]),
            parent=bytes.fromhex(values["parent"]),
            salt=b"" if erased else bytes.fromhex(values["salt"]),
            encoding=Encoding.ERASED if erased else Encoding.RAW,
            body=b"" if erased else _read_bytes("body", values),
        ),
    )


def _read_end(values: _Values) -> End:
    return End(
        int(values["events"]),
        int(values["messages"]),
        int(values["register"]),
        int(values["checkpoints"]),
    )


def _read_bytes(name: str, values: _Values) -> bytes:
    if name in values:
        return str(values[name]).encode()
    return base64.b64decode(values[f"{name}_base64"], validate=True)


_READERS: dict[str, Callable[[_Values], Record]] = {
    "manifest": _read_manifest,
    "register": _read_register_row,
    "checkpoint": lambda values: PublishedCheckpoint(_read_bytes("payload", values)),
    "event": _read_event,
    "message": _read_message,
    "end": _read_end,
}
