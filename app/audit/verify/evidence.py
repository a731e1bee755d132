"""What a verification is given, wherever it was read: from a database, or from an export."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from app.audit.chain import ChainHead, link_digest

_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """`at` in microseconds since the epoch; `digest` is the payload's SHA-256. `payload` is None
    where only that is known, `columns` where they were not read."""

    writer: str
    sequence: int
    at: int
    kind: int
    hash: bytes
    digest: bytes
    payload: bytes | None
    columns: Mapping[str, Any] | None = None

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.sequence, self.hash)

    def behind(self, before: ChainHead) -> ChainHead:
        """The chain with it. What was edited into a kind or a time that no writer has, has no hash:
        an empty one stands for it."""
        try:
            return link_digest(before, self.kind, self.at, self.digest)
        except struct.error:
            return ChainHead(before.sequence + 1, b"")


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """`registered_at` in microseconds since the epoch; None where it was not read."""

    number: int
    writer: str
    entry: bytes
    hash: bytes
    registered_at: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """That a chain was at `head`, from `source`. `signed`: by one of our keys, at `at`. `binding`:
    that event has to be there; it does not where only a part is read that ends before it."""

    head: ChainHead
    source: str
    signed: bool = False
    at: datetime | None = None
    closed: bool = False
    binding: bool = True


@dataclass(frozen=True, slots=True)
class Reference:
    """That an event refers to a message, which was stored on one of the days from `first_day` to
    `last_day`, as days since the epoch."""

    tenant: str
    address: bytes
    first_day: int
    last_day: int
    writer: str
    sequence: int
    request_id: str | None

    def may_be_older_than(self, day: date) -> bool:
        """Whether the message may have been stored before it, and not again since."""
        return self.first_day < day.toordinal() - _EPOCH_ORDINAL
