"""What a frame of the spool holds: an intent, an outcome and the like, each as one JSON object.

Whatever a client sent, a record can be encoded: what neither JSON nor Postgres' `jsonb` can say is
changed as little as it takes (a NUL and a lone surrogate become U+FFFD), and a record that would be
too long is cut where the table would cut it anyway. A record of a newer gateway can be read: the
fields that this one does not know are left out.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from math import isfinite
from typing import Any, TypeVar, cast

import orjson

from app.audit.records import AuditIntent, AuditLevel, AuditOutcome, Outcome
from app.protocol.events import Usage

# A request lists 256 hits of its filters, some 200 bytes each; an answer with its two rescues has
# 10 KiB at most, where each refused as many calls as are listed.
MAX_FINDINGS_BYTES = 64 * 1024

# The longest findings, and beside them fields of which no true one has a thousand characters.
MAX_RECORD_BYTES = MAX_FINDINGS_BYTES + 16 * 1024
MAX_TEXT_CHARACTERS = 512  # of a field in a record that is too long; the widest column has 256
MAX_DEPTH = 32  # below that of every encoder, and above anything that we record
MAX_DECIMAL_BITS = 1024
_TRUNCATED = {"truncated": True}

# What `jsonb` refuses. An escaped backslash before "u0000" looks the same; then the slow way
# changes nothing.
_REFUSED = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\ufffd"
_ESCAPED_NUL = b"\\u0000"
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # what a quick encoder of JSON takes

_INTENT_FIELDS = frozenset(field.name for field in fields(AuditIntent))
_OUTCOME_FIELDS = frozenset(field.name for field in fields(AuditOutcome))
_USAGE_FIELDS = frozenset(field.name for field in fields(Usage))

Record = TypeVar("Record", AuditIntent, AuditOutcome)
Name = TypeVar("Name", AuditLevel, Outcome)


class PayloadUnreadable(ValueError):
    """Not a record, though its checksum is right: written by a defect, or by a later format."""


@dataclass(frozen=True, slots=True)
class BodyPayload:
    """What content a request refers to, as its outcome will have it in `content`."""

    request_id: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChunkPayload:
    """What an answer has said since the chunk before, by choice: see `Transcript.taken`. `parent`
    is the address in hex of the message that it answers."""

    request_id: str
    tenant: str
    parent: str | None
    choices: dict[str, Any]
    thoughts: dict[str, str] = field(default_factory=dict)


def encode_intent(record: AuditIntent) -> bytes:
    """At most MAX_RECORD_BYTES. Never fails."""
    payload = encode_json(record)
    if len(payload) > MAX_RECORD_BYTES:
        payload = encode_json(_shortened(replace(record, parameters=_TRUNCATED)))
    return payload


def encode_outcome(record: AuditOutcome) -> bytes:
    """At most MAX_RECORD_BYTES. Never fails."""
    payload = encode_json(record)
    if len(payload) > MAX_RECORD_BYTES:
        record = _shortened(replace(record, findings=_TRUNCATED))
        payload = encode_json(record)
    if len(payload) > MAX_RECORD_BYTES:  # no true content comes near it
        payload = encode_json(replace(record, content=_TRUNCATED))
    return payload


def encode_body(body: BodyPayload) -> bytes:
    return encode_json(body)


def encode_chunk(chunk: ChunkPayload) -> bytes:
    return encode_json(chunk)


def encode_json(value: Any) -> bytes:
    """A value or a dataclass as JSON that Postgres takes as `jsonb`. Never fails."""
    try:
        payload = orjson.dumps(value)
    except TypeError:  # a lone surrogate, more than 64 bits, a name that is no plain string
        payload = _ESCAPED_NUL
    if _ESCAPED_NUL in payload:
        payload = json.dumps(_plain(value), separators=(",", ":")).encode()
    return payload


def decode_intent(payload: bytes) -> AuditIntent:
    """Raises PayloadUnreadable."""
    values = _decode(payload)
    known = {name: values[name] for name in values.keys() & _INTENT_FIELDS}
    try:
        known["level"] = _named(AuditLevel, known.get("level", AuditLevel.FULL))
        return AuditIntent(**known)
    except TypeError as error:
        raise PayloadUnreadable(str(error)) from error


def decode_outcome(payload: bytes) -> AuditOutcome:
    """Raises PayloadUnreadable. The name of an outcome that only a newer gateway knows stays as it
    is, a plain string, as that of a level does in an intent."""
    values = _decode(payload)
    known = {name: values[name] for name in values.keys() & _OUTCOME_FIELDS}
    try:
        known["outcome"] = _named(Outcome, known["outcome"])
        usage = known.get("usage", {})
        known["usage"] = Usage(**{name: usage[name] for name in usage.keys() & _USAGE_FIELDS})
        return AuditOutcome(**known)
    except (TypeError, AttributeError, KeyError) as error:
        raise PayloadUnreadable(f"{type(error).__name__}: {error}") from error


def decode_body(payload: bytes) -> BodyPayload:
    """Raises PayloadUnreadable."""
    values = _decode(payload)
    content = values.get("content")
    if not isinstance(content, dict):
        raise PayloadUnreadable("no content")
    return BodyPayload(values["request_id"], content)


def decode_chunk(payload: bytes) -> ChunkPayload:
    """Raises PayloadUnreadable."""
    values = _decode(payload)
    known = [values.get(name) for name in ("tenant", "parent", "choices", "thoughts")]
    match known:
        case [str() as tenant, None | str() as parent, dict() as choices, dict() as thoughts]:
            return ChunkPayload(values["request_id"], tenant, parent, choices, thoughts)
    raise PayloadUnreadable("no chunk")


def request_id_of(payload: bytes) -> str:
    """Of an intent or an outcome, also where the rest cannot be read by us. Raises
    PayloadUnreadable."""
    return cast(str, _decode(payload)["request_id"])


def _decode(payload: bytes) -> dict[str, Any]:
    """The object, with a string as its `request_id`."""
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise PayloadUnreadable(f"not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("request_id"), str):
        raise PayloadUnreadable("no request_id")
    return values


def _named(names: type[Name], name: object) -> Name:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name")
    try:
        return names(name)
    except ValueError:
        return cast(Name, name)


def _shortened(record: Record) -> Record:
    """Its texts cut, but for the request's id, which is ours and short."""
    texts: dict[str, Any] = {
        field.name: value[:MAX_TEXT_CHARACTERS]
        for field in fields(record)
        if type(value := getattr(record, field.name)) is str and field.name != "request_id"
    }
    return replace(record, **texts)


def _plain(value: Any, depth: int = 0) -> Any:
    """As values that JSON has, with integers of at most 64 bits."""
    if depth > MAX_DEPTH:
        return _TRUNCATED
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _REFUSED.sub(_REPLACEMENT, str(value))
    if isinstance(value, int):
        return _plain_integer(int(value))
    if isinstance(value, float):
        return value if isfinite(value) else None
    return _plain_container(value, depth)


def _plain_container(value: Any, depth: int) -> Any:
    if is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name), depth + 1) for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {_plain_key(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, Enum):
        return _plain(value.value, depth + 1)
    return repr(value)


def _plain_integer(value: int) -> int | str:
    if _MIN_INTEGER <= value <= _MAX_INTEGER:
        return value
    # Python refuses to write the decimal digits of a very long one.
    return str(value) if value.bit_length() <= MAX_DECIMAL_BITS else hex(value)


def _plain_key(key: Any) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else repr(plain)
