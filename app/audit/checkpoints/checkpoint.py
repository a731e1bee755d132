"""A signed statement of how far one chain goes and what its hash is there.

A JSON object with sorted names; the signature is of all but itself, after a prefix that no other
use of the key has. The same bytes are an event of the chain and a line of the second place.
Nothing here does I/O.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from app.audit.chain import HASH_BYTES, MAX_SEQUENCE, ChainHead
from app.audit.checkpoints.signing import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SigningKeys,
    is_signed,
)
from app.audit.spool.frames import Frame, FrameKind

FORMAT = 1
SIGNED_PREFIX = b"qwythos-audit-checkpoint-v1\0"
MAX_CHECKPOINT_BYTES = 4096  # one has some 600
_WRITER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_NAMES = frozenset(
    {
        "format", "writer", "sequence", "hash", "at", "previous", "register", "closed", "key",
        "signature",
    }
)  # fmt: skip


class CheckpointUnreadable(ValueError):
    """No checkpoint of a format that is known here. That says nothing of its signature."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`payload` is all of it, as it was written; the rest is what it says.

    `previous` is the sequence that the checkpoint before it in the chain states, `register` the
    number and the hash of the newest entry of the register that was known, `closed` that the writer
    has ended there.
    """

    writer: str
    sequence: int
    hash: bytes
    at: datetime
    previous: int | None
    register: tuple[int, bytes] | None
    closed: bool
    key: str
    signature: bytes
    payload: bytes

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.sequence, self.hash)

    @property
    def frame(self) -> Frame:
        return Frame(FrameKind.CHECKPOINT, self.payload)

    def is_signed(self) -> bool:
        """By the key that it names, whosever that is."""
        values = orjson.loads(self.payload)
        del values["signature"]
        return is_signed(_signed(values), self.signature, self.key)


def make_checkpoint(
    keys: SigningKeys,
    writer: str,
    head: ChainHead,
    *,
    at: float,
    previous: int | None,
    register: tuple[int, bytes] | None,
    closed: bool = False,
) -> Checkpoint:
    """`at` is in wall-clock seconds since the epoch."""
    values = {
        "format": FORMAT,
        "writer": writer,
        "sequence": head.sequence,
        "hash": head.hash.hex(),
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "previous": previous,
        "register": None if register is None else [register[0], register[1].hex()],
        "closed": closed,
        "key": keys.public_key,
    }
    signature = keys.sign(_signed(values)).hex()
    return parse_checkpoint(_dumped({**values, "signature": signature}))


def parse_checkpoint(payload: bytes) -> Checkpoint:
    """Raises CheckpointUnreadable."""
    if len(payload) > MAX_CHECKPOINT_BYTES:
        raise CheckpointUnreadable(f"{len(payload)} bytes are too long")
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise CheckpointUnreadable(f"not JSON: {error}") from None
    if not isinstance(values, dict) or values.keys() != _NAMES:
        raise CheckpointUnreadable("not the members of a checkpoint")
    if type(values["format"]) is not int or values["format"] != FORMAT:
        raise CheckpointUnreadable(f"format {values['format']!r}; {FORMAT} is known")
    return Checkpoint(
        writer=_writer(values["writer"]),
        sequence=_number(values["sequence"]),
        hash=_digest(values["hash"], HASH_BYTES),
        at=_moment(values["at"]),
        previous=None if values["previous"] is None else _number(values["previous"]),
        register=_register(values["register"]),
        closed=_flag(values["closed"]),
        key=_digest(values["key"], PUBLIC_KEY_BYTES).hex(),
        signature=_digest(values["signature"], SIGNATURE_BYTES),
        payload=payload,
    )


def _signed(values: dict[str, Any]) -> bytes:
    return SIGNED_PREFIX + _dumped(values)


def _dumped(values: dict[str, Any]) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)


def _writer(value: object) -> str:
    if not isinstance(value, str) or _WRITER.fullmatch(value) is None:
        raise CheckpointUnreadable("writer is not 32 hexadecimal digits")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise CheckpointUnreadable(f"a sequence is no number from 0 to {MAX_SEQUENCE}")
    return value


def _digest(value: object, size: int) -> bytes:
    if (
        not isinstance(value, str)
        or len(value) != 2 * size
        or _HEXADECIMAL.fullmatch(value) is None
    ):
        raise CheckpointUnreadable(f"a value is not {size} bytes in hexadecimal digits")
    return bytes.fromhex(value)


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(cast(str, value))
    except (TypeError, ValueError):
        raise CheckpointUnreadable("at is no time") from None
    if moment.tzinfo is None:
        raise CheckpointUnreadable("at has no time zone")
    return moment


def _register(value: object) -> tuple[int, bytes] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise CheckpointUnreadable("register is no pair")
    return _number(value[0]), _digest(value[1], HASH_BYTES)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise CheckpointUnreadable("closed is neither true nor false")
    return value
