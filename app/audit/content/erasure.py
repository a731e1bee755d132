"""Erasing messages: what was said goes, the way through the conversation stays.

A row keeps its address and its parent, or all that came before the message could not be found any
more; and a copy of the same day that a spool still holds finds its place taken. Without body and
salt the address proves nothing. The bytes themselves go with the next VACUUM of the table.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.content.compression import Encoding
from app.store.transaction import in_transaction

_ERASE = text("""
UPDATE audit_messages SET encoding = :erased, salt = '', body = ''
WHERE tenant = :tenant AND address = ANY(:addresses) AND encoding <> :erased
""")


async def erase(engine: AsyncEngine, tenant: str, addresses: Sequence[bytes]) -> int:
    """Of all days, in one transaction. The number of rows that held something; 0 the second time.
    Call it only once the event that says so is durable. Raises DatabaseUnavailable."""

    async def step(connection: AsyncConnection) -> int:
        values = {"tenant": tenant, "addresses": list(addresses), "erased": int(Encoding.ERASED)}
        return (await connection.execute(_ERASE, values)).rowcount

    return await in_transaction(engine, step)
