"""All that the database has of all requests, read at once."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.nodes import ROOT, StoredMessage
from app.audit.spool.frames import FrameKind
from app.store.tables import audit_events, audit_messages
from tests.support.gateway import Json

Messages = Mapping[bytes, StoredMessage]  # by address


@dataclass
class Logged:
    """Of one request."""

    messages: Messages
    intents: list[Json] = field(default_factory=list)
    outcomes: list[Json] = field(default_factory=list)

    @property
    def outcome(self) -> Json:
        (outcome,) = self.outcomes
        return outcome

    @property
    def end(self) -> str:
        return str(self.outcome["outcome"])

    @property
    def asked(self) -> list[Json] | None:
        """None where no text of it is kept."""
        content = self.outcome["content"]
        if content is None:
            return None
        messages: list[Json] = []
        address = bytes.fromhex(content["prompt"])
        while address != ROOT:
            message = self.messages[address]
            messages.insert(0, _value(message))
            address = message.parent
        assert len(messages) == content["messages"]
        return messages

    @property
    def answer(self) -> str:
        """Of its only choice; nothing where there is none."""
        answers: dict[str, str] = (self.outcome["content"] or {}).get("answers", {})
        said = [_value(self.messages[bytes.fromhex(address)]) for address in answers.values()]
        return "".join(message.get("content") or "" for message in said)


def _value(message: StoredMessage) -> Json:
    assert message.intact
    value: Json = orjson.loads(message.text() or b"")
    return value


async def read_log(engine: AsyncEngine) -> dict[str, Logged]:
    """By request id. The database may have had other tenants' messages, not the same ones."""
    events, stored = audit_events.c, audit_messages.c
    async with engine.connect() as connection:
        columns = (stored.tenant, stored.address, stored.parent, stored.salt, stored.encoding)
        found = await connection.execute(select(*columns, stored.body))
        messages = {row.address: StoredMessage(**row._mapping) for row in found}
        logged: dict[str, Logged] = defaultdict(lambda: Logged(messages))
        wanted = select(events.request_id, events.kind, events.payload)
        rows: Any = await connection.execute(wanted.where(events.request_id.is_not(None)))
        for request_id, kind, payload in rows:
            one = logged[request_id]
            (one.intents if kind == FrameKind.INTENT else one.outcomes).append(
                orjson.loads(payload)
            )
    return dict(logged)
