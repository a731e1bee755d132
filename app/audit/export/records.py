"""What an export consists of, in the order in which it is written.

First a manifest; then rows of the register and checkpoints of the second place; then the events by
writer and number, and among or behind them the messages; last the end, with how many there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from app.audit.bounds import BEGINNING, END
from app.audit.chain import ChainHead
from app.audit.content.nodes import StoredMessage
from app.audit.log_reader import Part
from app.audit.verify.evidence import RegisterRow, StoredEvent

FORMAT = 1


class ExportUnreadable(ValueError):
    """Not an export of a format that is known here, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was asked for, and what a verification needs. `since`, `until`, `tenant` and `key` are
    None where they were no bound; `content`: the messages are there; `shipped` is how far each
    chain was stored."""

    made_at: str
    version: str
    since: str | None
    until: str | None
    tenant: str | None
    key: str | None
    content: bool
    public_keys: tuple[str, ...]
    shipped: Mapping[str, ChainHead] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        """No event of it is left out; of some only the hashes may be there. Raises
        ExportUnreadable."""
        return Part(_moment(self.since), _moment(self.until))


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    payload: bytes


@dataclass(frozen=True, slots=True)
class ExportedMessage:
    """`message` has its body as text, not compressed."""

    stored_on: date
    message: StoredMessage


@dataclass(frozen=True, slots=True)
class End:
    """How many of each are before it."""

    events: int
    messages: int
    register: int
    checkpoints: int


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ExportUnreadable(f"a range from or to {value!r}, which is no time") from None
    if moment.tzinfo is None:
        raise ExportUnreadable(f"a range from or to {value!r}, which has no time zone")
    if not BEGINNING <= moment < END:
        raise ExportUnreadable(f"a range from or to {value!r}, when nothing can be recorded")
    return moment


Record = Manifest | RegisterRow | PublishedCheckpoint | StoredEvent | ExportedMessage | End
