"""Where a page of a search ends: opaque to whoever sends it back."""

import base64
import binascii
import struct
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from app.errors import InvalidRequest

MAX_CURSOR_CHARACTERS = 128  # 8 bytes and an id of at most 40 characters, in base64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECONDS = struct.Struct(">q")


class Cursor(NamedTuple):
    """The last row of a page: what follows it is older."""

    recorded_at: datetime
    request_id: str


def encode_cursor(cursor: Cursor) -> str:
    microseconds = (cursor.recorded_at - _EPOCH) // timedelta(microseconds=1)
    raw = _MICROSECONDS.pack(microseconds) + cursor.request_id.encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises InvalidRequest, for `after`."""
    try:
        if len(text) > MAX_CURSOR_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        (microseconds,) = _MICROSECONDS.unpack_from(raw)
        request_id = raw[_MICROSECONDS.size :].decode()
        if not request_id.isprintable():  # NUL among them, which the database does not take
            raise ValueError
        return Cursor(_EPOCH + timedelta(microseconds=microseconds), request_id)
    except (ValueError, binascii.Error, struct.error, OverflowError):
        raise InvalidRequest(
            "This is no place in a search: send what a page gave as its last_id.", param="after"
        ) from None
