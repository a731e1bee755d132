"""Which messages an event refers to. Nothing here does I/O."""

from collections.abc import Mapping
from typing import Any

import orjson

from app.audit.spool.frames import FrameKind
from app.audit.verify.evidence import Reference, StoredEvent

MICROSECONDS_A_DAY = 86_400 * 1_000_000
SECONDS_A_DAY = 86_400


def references_of(event: StoredEvent, columns: Mapping[str, Any]) -> list[Reference]:
    """Of an outcome, what was asked and answered; of other events nothing. `columns` are those of
    its payload.

    A message is stored when its request comes, or was on that day; or when it ends.
    """
    if event.kind != FrameKind.OUTCOME or event.payload is None:
        return []
    content = values_of(event.payload).get("content")
    if not isinstance(content, dict):
        return []
    last_day = first_day = event.at // MICROSECONDS_A_DAY
    if columns["received_at"] is not None:
        first_day = min(int(columns["received_at"].timestamp()) // SECONDS_A_DAY, last_day)
    return [
        Reference(
            tenant=columns["tenant"] or "",  # as the messages of nobody's are stored
            address=address,
            first_day=first_day - 1,  # as a spool near midnight may have it
            last_day=last_day,
            writer=event.writer,
            sequence=event.sequence,
            request_id=columns["request_id"],
        )
        for address in _addresses(content)
    ]


def values_of(payload: bytes) -> dict[str, Any]:
    """Of a payload that is a JSON object; of any other nothing, as its hash tells."""
    try:
        values = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}


def _addresses(content: Mapping[str, Any]) -> list[bytes]:
    answers = content.get("answers")
    named: list[Any] = [content.get("envelope"), content.get("prompt")]
    named += answers.values() if isinstance(answers, dict) else []
    addresses = []
    for name in named:
        try:
            addresses.append(bytes.fromhex(name))
        except (TypeError, ValueError):  # null, or changed
            continue
    return addresses
