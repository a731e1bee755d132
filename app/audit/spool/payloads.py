"""What a frame of the spool holds: an intent or an outcome as one JSON object.

Whatever a client sent, a record can be encoded: what JSON cannot say is changed as little as it
takes, and a record that would be too long is cut where the table would cut it anyway. A record of
a newer gateway can be read: the fields that this one does not know are left out.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from math import isfinite
from typing import Any, TypeVar, cast

import orjson

from app.audit.records import AuditIntent, AuditOutcome, Outcome
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
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # what a quick encoder of JSON takes

_INTENT_FIELDS = frozenset(field.name for field in fields(AuditIntent))
_OUTCOME_FIELDS = frozenset(field.name for field in fields(AuditOutcome))
_USAGE_FIELDS = frozenset(field.name for field in fields(Usage))

Record = TypeVar("Record", AuditIntent, AuditOutcome)


class PayloadUnreadable(ValueError):
    """Not a record, though its checksum is right: written by a defect, or by a later format."""


def encode_intent(record: AuditIntent) -> bytes:
    """At most MAX_RECORD_BYTES. Never fails."""
    payload = _encode(record)
    if len(payload) > MAX_RECORD_BYTES:
        payload = _encode(_shortened(replace(record, parameters=_TRUNCATED)))
    return payload


def encode_outcome(record: AuditOutcome) -> bytes:
    """At most MAX_RECORD_BYTES. Never fails."""
    payload = _encode(record)
    if len(payload) > MAX_RECORD_BYTES:
        payload = _encode(_shortened(replace(record, findings=_TRUNCATED)))
    return payload


def decode_intent(payload: bytes) -> AuditIntent:
    """Raises PayloadUnreadable."""
    values = _decode(payload)
    try:
        return AuditIntent(**{name: values[name] for name in values.keys() & _INTENT_FIELDS})
    except TypeError as error:
        raise PayloadUnreadable(str(error)) from error


def decode_outcome(payload: bytes) -> AuditOutcome:
    """Raises PayloadUnreadable. The name of an outcome that only a newer gateway knows stays as it
    is, a plain string."""
    values = _decode(payload)
    known = {name: values[name] for name in values.keys() & _OUTCOME_FIELDS}
    try:
        known["outcome"] = _outcome(known["outcome"])
        usage = known.get("usage", {})
        known["usage"] = Usage(**{name: usage[name] for name in usage.keys() & _USAGE_FIELDS})
        return AuditOutcome(**known)
    except (TypeError, AttributeError, KeyError) as error:
        raise PayloadUnreadable(f"{type(error).__name__}: {error}") from error


def request_id_of(payload: bytes) -> str:
    """Of an intent or an outcome, also where the rest cannot be read by us. Raises
    PayloadUnreadable."""
    return cast(str, _decode(payload)["request_id"])


def _encode(record: AuditIntent | AuditOutcome) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:  # a lone surrogate, more than 64 bits, a name that is no plain string
        # Escapes are the one form in which a lone surrogate comes back as it was.
        return json.dumps(_plain(record), separators=(",", ":")).encode()


def _decode(payload: bytes) -> dict[str, Any]:
    """The object, with a string as its `request_id`."""
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError:  # it refuses lone surrogates
        try:
            values = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise PayloadUnreadable(f"not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("request_id"), str):
        raise PayloadUnreadable("no request_id")
    return values


def _outcome(name: object) -> Outcome:
    if not isinstance(name, str):
        raise TypeError("outcome is no string")
    try:
        return Outcome(name)
    except ValueError:
        return cast(Outcome, name)


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
        return str(value)
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
