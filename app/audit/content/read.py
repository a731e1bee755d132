"""Messages read back from Postgres."""

from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.content.nodes import ROOT, StoredMessage
from app.store.transaction import in_transaction

# From the newest day on: an index scan of its partition ends the search for most addresses. The
# bodies are fetched at the end, or the recursion would carry them along.
_CONVERSATION = text("""
WITH RECURSIVE
tip AS (
    SELECT address, parent, stored_on FROM audit_messages
    WHERE tenant = :tenant AND address = :tip ORDER BY stored_on DESC LIMIT 1
),
way AS (
    SELECT address, parent, stored_on, 1 AS steps FROM tip
    UNION ALL
    SELECT before.address, before.parent, before.stored_on, way.steps + 1
    FROM way CROSS JOIN LATERAL (
        SELECT address, parent, stored_on FROM audit_messages
        WHERE tenant = :tenant AND address = way.parent ORDER BY stored_on DESC LIMIT 1
    ) AS before
    WHERE way.steps < :limit AND way.parent <> :root
)
SELECT m.tenant, m.address, m.parent, m.salt, m.encoding, m.body
FROM way JOIN audit_messages AS m
    ON m.tenant = :tenant AND m.address = way.address AND m.stored_on = way.stored_on
ORDER BY way.steps DESC
""")

_MESSAGE = text("""
SELECT tenant, address, parent, salt, encoding, body FROM audit_messages
WHERE tenant = :tenant AND address = :address ORDER BY stored_on DESC LIMIT 1
""")


async def conversation(
    engine: AsyncEngine, tenant: str, tip: bytes, *, limit: int
) -> list[StoredMessage]:
    """The messages up to the one of address `tip`, the first one first; of more than `limit`, the
    last. None where the tip is not stored. Where the first one's parent is not ROOT, that message
    is not stored either, or `limit` was reached. Erased ones are among them.

    Raises DatabaseUnavailable.
    """

    async def step(connection: AsyncConnection) -> list[StoredMessage]:
        values = {"tenant": tenant, "tip": tip, "limit": limit, "root": ROOT}
        return [_stored(row) for row in await connection.execute(_CONVERSATION, values)]

    return await in_transaction(engine, step)


async def message(engine: AsyncEngine, tenant: str, address: bytes) -> StoredMessage | None:
    """The newest copy, which may be erased. Raises DatabaseUnavailable."""

    async def step(connection: AsyncConnection) -> StoredMessage | None:
        found = await connection.execute(_MESSAGE, {"tenant": tenant, "address": address})
        row = found.one_or_none()
        return None if row is None else _stored(row)

    return await in_transaction(engine, step)


def _stored(row: Row[Any]) -> StoredMessage:
    return StoredMessage(**row._mapping)
