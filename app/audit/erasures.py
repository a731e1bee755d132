"""What was erased, when, by whom and why: read from the events that say so."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.bounds import within_bounds
from app.audit.spool.frames import FrameKind
from app.store.tables import audit_events
from app.store.transaction import in_transaction


@dataclass(frozen=True, slots=True)
class Erasure:
    """`by` and `reason` are as whoever erased gave them."""

    erased_at: datetime
    by: str
    reason: str


def erasure_payload(tenant: str, addresses: Collection[bytes], *, by: str, reason: str) -> bytes:
    """Of the event ERASURE."""
    return orjson.dumps(
        {
            "tenant": tenant,
            "addresses": [address.hex() for address in addresses],
            "reason": reason,
            "by": by,
        }
    )


async def erasures_of(
    engine: AsyncEngine, tenant: str, addresses: Collection[bytes]
) -> dict[bytes, Erasure]:
    """Those of the addresses that were erased, each with its first erasure. Raises
    DatabaseUnavailable."""
    wanted = {address.hex(): address for address in addresses}
    column = audit_events.c
    # Written out, as the index of these few events is of no other kinds.
    of_kind = column.kind == literal_column(str(int(FrameKind.ERASURE)))
    events = (
        select(column.recorded_at, column.payload)
        .where(of_kind, column.tenant == tenant, within_bounds(column))
        .order_by(column.recorded_at)
    )
    found: dict[bytes, Erasure] = {}

    async def step(connection: AsyncConnection) -> None:
        for recorded_at, payload in await connection.execute(events):
            event = _document(payload)
            erasure = Erasure(recorded_at, str(event.get("by")), str(event.get("reason")))
            for address in _addresses(event) & wanted.keys():
                found.setdefault(wanted[address], erasure)

    if wanted:
        await in_transaction(engine, step)
    return found


def _document(payload: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:  # spoilt: `gateway audit verify` tells of it
        return {}
    return document if isinstance(document, dict) else {}


def _addresses(event: dict[str, Any]) -> set[str]:
    addresses = event.get("addresses")
    if not isinstance(addresses, list):
        return set()
    return {address for address in addresses if isinstance(address, str)}
