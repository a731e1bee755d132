"""What there is to erase, of a request, of a conversation, or by addresses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.content import read
from app.audit.content.compression import BodyUnreadable
from app.audit.content.nodes import StoredMessage
from app.audit.exchange import MAX_MESSAGES, address_of
from app.audit.spool.frames import FrameKind
from app.store.tables import audit_events
from app.store.transaction import in_transaction

# What a request says of itself that names a person: with it, its parameters are erased as well.
NAMING = frozenset({"user", "metadata", "safety_identifier"})
SYSTEM_ROLES = frozenset({"system", "developer"})

_MAY_ERASE = text("SELECT has_table_privilege('audit_messages', 'UPDATE')")


@dataclass(frozen=True, slots=True)
class Erasable:
    """One message that is there, or the parameters of a request. `what` is its role; `excerpt` is
    of its text."""

    address: bytes
    what: str
    excerpt: str
    body_bytes: int


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """`kept` are system messages and parameters that others may share, left where they are;
    `unknown` are addresses that were asked for, and of which there is nothing, erased or not."""

    tenant: str
    erased: tuple[Erasable, ...]
    kept: int
    requests: int
    unknown: tuple[bytes, ...] = ()


async def may_erase(engine: AsyncEngine) -> bool:
    """Whether the database would let us: it lets the gateway's own role only add. Raises
    DatabaseUnavailable."""

    async def step(connection: AsyncConnection) -> bool:
        return bool(await connection.scalar(_MAY_ERASE))

    return await in_transaction(engine, step)


async def plan_of_contents(
    engine: AsyncEngine, tenant: str, contents: Iterable[dict[str, Any]], *, with_system: bool
) -> ErasurePlan:
    """Of all that requests refer to, each with its record's `content`. Those whose last message is
    among what another refers to cost nothing: give the latest first. Raises DatabaseUnavailable."""
    found: dict[bytes, Erasable] = {}
    kept: set[bytes] = set()
    seen: set[bytes] = set()
    requests = 0
    for content in contents:
        requests += 1
        for stored, what in await _referred_to(engine, tenant, content, seen):
            seen.add(stored.address)
            if stored.erased:
                continue
            erasable, spared = _erasable(stored, what)
            if spared and not with_system:
                kept.add(stored.address)
            else:
                found[stored.address] = erasable
    return ErasurePlan(tenant, tuple(found.values()), len(kept), requests)


async def plan_of_messages(
    engine: AsyncEngine, tenant: str, addresses: Sequence[bytes]
) -> ErasurePlan:
    """Of just these, whatever they are. Raises DatabaseUnavailable."""
    stored = {address: await read.message(engine, tenant, address) for address in addresses}
    there = [each for each in stored.values() if each is not None and not each.erased]
    found = tuple(_erasable(message, None)[0] for message in there)
    unknown = tuple(address for address, message in stored.items() if message is None)
    return ErasurePlan(tenant, found, 0, 0, unknown)


async def contents_of_conversation(
    engine: AsyncEngine, tenant: str, conversation: str
) -> list[dict[str, Any]]:
    """Of its requests that have ended, the latest first. Raises DatabaseUnavailable."""
    column = audit_events.c
    wanted = (
        select(column.payload)
        .where(
            column.conversation == conversation,
            column.tenant == tenant,
            column.kind == literal_column(str(int(FrameKind.OUTCOME))),
        )
        .order_by(column.recorded_at.desc())
    )

    async def step(connection: AsyncConnection) -> list[bytes]:
        return list(await connection.scalars(wanted))

    payloads = await in_transaction(engine, step)
    return [content for payload in payloads if (content := _content(payload)) is not None]


async def _referred_to(
    engine: AsyncEngine, tenant: str, content: dict[str, Any], seen: set[bytes]
) -> list[tuple[StoredMessage, str | None]]:
    found: list[tuple[StoredMessage, str | None]] = []
    tip = address_of(content.get("prompt"))
    if tip is not None and tip not in seen:
        messages = await read.conversation(engine, tenant, tip, limit=MAX_MESSAGES)
        found += [(message, None) for message in messages]
    for address, what in _single(content):
        if address not in seen and (message := await read.message(engine, tenant, address)):
            found.append((message, what))
    return found


def _single(content: dict[str, Any]) -> Iterator[tuple[bytes, str | None]]:
    answers = content.get("answers")
    for value in answers.values() if isinstance(answers, dict) else ():
        if (address := address_of(value)) is not None:
            yield address, None
    if (envelope := address_of(content.get("envelope"))) is not None:
        yield envelope, "parameters"


def _erasable(stored: StoredMessage, what: str | None) -> tuple[Erasable, bool]:
    """And whether others may share it, so that it is spared."""
    try:
        body = stored.text() or b""
        value = orjson.loads(body)
    except (BodyUnreadable, orjson.JSONDecodeError):  # spoilt: it is still somebody's
        body, value = stored.body, None
    fields = value if isinstance(value, dict) else {}
    role = fields.get("role")
    named = what or (role if isinstance(role, str) else "message")
    shared = not NAMING & fields.keys() if what else role in SYSTEM_ROLES
    said = fields.get("content", fields)
    excerpt = said if isinstance(said, str) else body.decode(errors="replace")
    return Erasable(stored.address, named, excerpt, len(body)), shared


def _content(payload: bytes) -> dict[str, Any] | None:
    try:
        content = orjson.loads(payload).get("content")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return content if isinstance(content, dict) else None
