"""Requests taken apart, with a clock that stands until it is told otherwise."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from app.audit.content.nodes import (
    ROOT,
    StoredMessage,
    TenantAddresses,
    read_message_payload,
)
from app.audit.content.redaction import Redaction
from app.audit.content.request import RequestContent, content_of
from app.audit.content.stored_today import SECONDS_PER_DAY, StoredToday
from app.protocol.request import Json

TENANT = "acme"
ADDRESSES = TenantAddresses(b"p" * 32)


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


def read(payloads: Any) -> list[StoredMessage]:
    messages = [read_message_payload(payload) for payload in payloads]
    assert all(message.intact for message in messages)
    return messages


def text_of(message: StoredMessage) -> bytes:
    text = message.text()
    assert text is not None
    return text


def json_of(message: StoredMessage) -> Any:
    return orjson.loads(text_of(message))


@dataclass
class Process:
    """One process of the gateway: what it knows to be stored, and what it has stored."""

    now: float = 20_000.5 * SECONDS_PER_DAY
    entries: int = 1_000
    redaction: Redaction = field(default_factory=Redaction)
    stored: dict[bytes, StoredMessage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = StoredToday(self.entries, lambda: self.now)

    def ask(self, *messages: Json, tenant: str = TENANT, **fields: Any) -> RequestContent:
        return self.take({"model": "qwythos", "messages": list(messages), **fields}, tenant)

    def take(self, sent: Json, tenant: str = TENANT) -> RequestContent:
        return content_of(sent, tenant, ADDRESSES, self.known, self.redaction)

    def store(self, content: RequestContent) -> list[StoredMessage]:
        """As if its append had been acknowledged. What it wrote."""
        written = read(content.payloads)
        self.stored |= {message.address: message for message in written}
        self.known.mark(content.addresses)
        return written

    def conversation(self, content: RequestContent) -> list[Any]:
        """The messages that a request refers to, as JSON."""
        found = []
        address = bytes.fromhex(content.content["prompt"])
        while address != ROOT:
            found.append(json_of(self.stored[address]))
            address = self.stored[address].parent
        return found[::-1]
