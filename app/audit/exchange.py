"""What was said in a request: its messages, its parameters and its answers, as they are kept."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content import read
from app.audit.content.compression import BodyUnreadable
from app.audit.content.nodes import ADDRESS_BYTES, ROOT, StoredMessage
from app.audit.erasures import Erasure, erasures_of
from app.audit.row import AuditRow

MAX_MESSAGES = (
    100_000  # more than the edge takes in one body, and not for ever where rows are wrong
)


class State(StrEnum):
    """What has become of a piece of content."""

    KEPT = "kept"
    ERASED = "erased"
    MISSING = "missing"  # never shipped, not yet, or dropped with its day
    ALTERED = "altered"  # not what its address was given to


@dataclass(frozen=True, slots=True)
class Said:
    """`body` is JSON, None where there is none to be read; `value` is the same, parsed."""

    address: str
    state: State
    body: bytes | None = None
    value: Any = None
    erasure: Erasure | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """`messages` are those that can be reached from the last, in their order; `missing_messages`
    stood before them. `answers` are by the number of their choice. With `partial`, they are what
    was shown up to a moment before a crash."""

    parameters: Said | None
    messages: tuple[Said, ...]
    missing_messages: int
    answers: dict[str, Said]
    partial: bool


async def read_exchange(engine: AsyncEngine, row: AuditRow) -> Exchange | None:
    """None where no text is kept of the request. Raises DatabaseUnavailable."""
    content, tenant = row.content, row.tenant
    if content is None or tenant is None:
        return None
    tip = address_of(content.get("prompt"))
    stored = [] if tip is None else await read.conversation(engine, tenant, tip, limit=MAX_MESSAGES)
    named = {"envelope": address_of(content.get("envelope"))}
    answers = content.get("answers")
    for choice, address in (answers if isinstance(answers, dict) else {}).items():
        named[choice] = address_of(address)
    single = {
        name: (address, await read.message(engine, tenant, address))
        for name, address in named.items()
        if address is not None
    }
    rows = [*stored, *(message for _, message in single.values() if message is not None)]
    erased = await erasures_of(engine, tenant, [row.address for row in rows if row.erased])
    # A thread: to check and to parse 32 MiB takes a third of a second.
    said = await asyncio.to_thread(lambda: {row.address: _said(row, erased) for row in rows})

    def one(name: str) -> Said | None:
        if name not in single:
            return None
        address, _ = single[name]
        return said.get(address) or Said(address.hex(), State.MISSING)

    return Exchange(
        parameters=one("envelope"),
        messages=tuple(said[message.address] for message in stored),
        missing_messages=_missing(content.get("messages"), stored),
        answers={name: found for name in named if name != "envelope" and (found := one(name))},
        partial=content.get("partial") is True,
    )


def _missing(messages: object, stored: Sequence[StoredMessage]) -> int:
    """0 where the first is there, whatever the record says of their number."""
    if stored and stored[0].parent == ROOT:
        return 0
    expected = messages if isinstance(messages, int) else 0
    return max(expected - len(stored), 1 if stored else 0)


def _said(message: StoredMessage, erased: dict[bytes, Erasure]) -> Said:
    address = message.address.hex()
    if message.erased:
        return Said(address, State.ERASED, erasure=erased.get(message.address))
    try:
        body = message.text()
        value = orjson.loads(body or b"")
    except (BodyUnreadable, orjson.JSONDecodeError):
        return Said(address, State.ALTERED)
    return Said(address, State.KEPT if message.intact else State.ALTERED, body, value)


def address_of(value: object) -> bytes | None:
    """Of hexadecimal digits; None where it is none."""
    try:
        address = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return None
    return address if len(address) == ADDRESS_BYTES else None
