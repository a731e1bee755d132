"""The columns of an event, as its payload says: what is searched for, and no more than that.

The payload alone is evidence. Whoever writes the columns and whoever checks them asks here. Nothing
here does I/O, and nothing fails: a payload that cannot be read has no columns, and a value that a
column cannot hold is null, or cut.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from app.audit.spool.frames import FrameKind
from app.store.tables import audit_events

_FIRST = list(audit_events.c.keys()).index("payload") + 1
COLUMNS: tuple[str, ...] = tuple(audit_events.c.keys()[_FIRST:])  # in the order of the table

_NOTHING: dict[str, Any] = dict.fromkeys(COLUMNS)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT32 = 2**31
_INT64 = 2**63
_NUL = "\0"  # in no text of Postgres'
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_OF_REQUEST = ("request_id", "received_at", "key_id", "tenant", "model")
_OF_KIND: dict[int, tuple[str, ...]] = {
    FrameKind.INTENT: _OF_REQUEST,
    FrameKind.OUTCOME: (
        *_OF_REQUEST, "outcome", "status", "error_code", "charged_tokens", "settled_at",
    ),
    FrameKind.ERASURE: ("tenant",),
}  # fmt: skip


def columns_of(kind: int, payload: bytes) -> dict[str, Any]:
    """All of COLUMNS, None where the event has no such thing."""
    columns = _NOTHING.copy()
    readers = _READERS.get(kind)
    if readers is None:
        return columns
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return columns
    if not isinstance(values, dict):
        return columns
    for name, read in readers:
        columns[name] = read(values.get(name))
    if kind == FrameKind.OUTCOME and isinstance(content := values.get("content"), dict):
        columns["conversation"] = _READ["conversation"](content.get("conversation"))
    return columns


def moment(seconds: float) -> datetime:
    """Of wall-clock seconds since the epoch, to the nearest microsecond. Raises ValueError where
    that is no date."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"{seconds} seconds") from error


def _text(characters: int) -> Callable[[Any], str | None]:
    def read(value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        text = value[:characters]
        return text.replace(_NUL, _REPLACEMENT) if _NUL in text else text

    return read


def _integer(bound: int) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        # Not a boolean, which is an int as well.
        return value if type(value) is int and -bound <= value < bound else None

    return read


def _moment(value: Any) -> datetime | None:
    """0 stands for a time that is not known."""
    if type(value) not in (int, float) or not value:
        return None
    try:
        return moment(value)
    except ValueError:
        return None


_READ: dict[str, Callable[[Any], Any]] = {
    **{
        name: _text(audit_events.c[name].type.length)  # type: ignore[attr-defined]  # a String's
        for name in COLUMNS
        if hasattr(audit_events.c[name].type, "length")
    },
    "received_at": _moment,
    "settled_at": _moment,
    "status": _integer(_INT32),
    "charged_tokens": _integer(_INT64),
}
_READERS = {kind: tuple((name, _READ[name]) for name in names) for kind, names in _OF_KIND.items()}
