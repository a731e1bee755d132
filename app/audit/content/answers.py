"""What a request was answered: one message a choice, each following what was asked.

A client that goes on sends the answer back, and it is met as the message that it is.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson

from app.audit.content.nodes import ROOT, TenantAddresses, message_payload
from app.audit.content.redaction import Redaction
from app.audit.content.request import without_nulls
from app.protocol.request import Json

AnswerOf = Callable[[str, bytes, bytes], tuple[bytes, bytes]]


class AnswerContent(NamedTuple):
    """Payloads of the frames MESSAGE to be stored, and what an outcome says of them: addresses in
    hexadecimal digits by the number of the choice."""

    payloads: list[bytes]
    answers: dict[str, str]


def answer_content(
    messages: Mapping[int, Json],
    tenant: str,
    prompt: str | None,
    addresses: TenantAddresses,
    redaction: Redaction,
) -> AnswerContent:
    """`prompt` is the address of the last message that was asked, in hexadecimal digits."""
    parent = bytes.fromhex(prompt) if prompt else ROOT
    content = AnswerContent([], {})
    for choice, message in messages.items():
        node = addresses.node(tenant, parent, redaction.masked(without_nulls(message)))
        content.payloads.append(message_payload(node, tenant))
        content.answers[str(choice)] = node.address.hex()
    return content


def answers_of(addresses: TenantAddresses, redaction: Redaction) -> AnswerOf:
    """For a recovery: (tenant, address of what was asked, the message as JSON) gives the answer's
    address and the payload of its frame."""

    def answer_of(tenant: str, parent: bytes, body: bytes) -> tuple[bytes, bytes]:
        message = without_nulls(orjson.loads(body))
        node = addresses.node(tenant, parent, redaction.masked(message))
        return node.address, message_payload(node, tenant)

    return answer_of
