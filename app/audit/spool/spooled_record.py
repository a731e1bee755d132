"""What is shipped of a spool: its frames, as the rows that they become."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from app.audit.chain import ChainHead
from app.audit.content.nodes import MessageUnreadable, read_message_payload
from app.audit.projection import columns_of
from app.audit.spool.cursor import Found
from app.audit.spool.frames import CHAINED, FrameKind
from app.audit.stored import Row, event_row, message_row

# For a recovery, or for whoever reads the spool: the database has no use for them.
NOT_SHIPPED = frozenset({FrameKind.BODY, FrameKind.CHUNK, FrameKind.SEGMENT})

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


class SpooledRecord(NamedTuple):
    """`before` and `chain`: the writer's chain without it and with it, the same where it is no
    event. `row` is None where no table can hold it, and `problem` says why."""

    found: Found
    before: ChainHead
    chain: ChainHead
    columns: Mapping[str, Any] = _NO_COLUMNS
    row: Row | None = None
    problem: str = ""

    @property
    def size_bytes(self) -> int:
        """In the spool."""
        return self.found.end.offset - self.found.start.offset

    @property
    def request_id(self) -> str | None:
        return self.columns.get("request_id")

    @property
    def received_at(self) -> float | None:
        """Of the request, in wall-clock seconds since the epoch."""
        received_at: datetime | None = self.columns.get("received_at")
        return None if received_at is None else received_at.timestamp()


def spooled_record(writer: str, before: ChainHead, chain: ChainHead, found: Found) -> SpooledRecord:
    """Never fails."""
    if found.kind is None:
        problem = "no frame: never acknowledged, or damaged"
        return SpooledRecord(found, before, chain, problem=problem)
    try:
        if found.kind == FrameKind.MESSAGE:
            row = message_row(found.at, read_message_payload(found.payload))
            return SpooledRecord(found, before, chain, row=row)
        if found.kind in CHAINED:
            columns = columns_of(found.kind, found.payload)
            row = event_row(writer, chain, found.kind, found.at, found.payload, columns)
            return SpooledRecord(found, before, chain, columns, row)
    except MessageUnreadable as error:
        return SpooledRecord(found, before, chain, problem=f"a message that is none: {error}")
    except OverflowError:
        problem = f"recorded {found.at} microseconds after 1970"
        return SpooledRecord(found, before, chain, problem=problem)
    problem = f"a frame of kind {found.kind}, of a newer version"
    return SpooledRecord(found, before, chain, problem=problem)
