"""How far each spool is shipped, as the database says: the table `audit_spool_offsets`.

The row moves from where it was believed to be, first thing in the transaction that writes the
records. Whoever is wrong about it, because another shipped the same or because an earlier commit
went through unheard, waits for that other and then writes nothing.
"""

from typing import NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.chain import ChainHead
from app.audit.spool.segments import Position
from app.store.tables import audit_spool_offsets

_column = audit_spool_offsets.c


class Shipped(NamedTuple):
    """Up to where, and the chain of what is before; None where an older version said it, which knew
    of no chain."""

    position: Position
    chain: ChainHead | None


class OffsetMoved(Exception):
    """The spool is not shipped as far as was believed, or farther."""


async def shipped_offset(engine: AsyncEngine, writer: str) -> Shipped | None:
    """None where nothing of that spool was shipped. Raises what the database's absence raises."""
    wanted = select(_column.segment, _column.offset_bytes, _column.sequence, _column.hash).where(
        _column.writer == writer
    )
    async with engine.connect() as connection:
        row = (await connection.execute(wanted)).first()
    if row is None:
        return None
    chain = None if row.hash is None else ChainHead(row.sequence, row.hash)
    return Shipped(Position(row.segment, row.offset_bytes), chain)


async def move_offset(
    connection: AsyncConnection,
    writer: str,
    before: Position | None,
    after: Position,
    chain: ChainHead,
) -> None:
    """In the connection's transaction. Raises OffsetMoved where it is not at `before`."""
    values = {
        "segment": after.segment,
        "offset_bytes": after.offset,
        "sequence": chain.sequence,
        "hash": chain.hash,
        "updated_at": func.now(),
    }
    if before is None:
        made = insert(audit_spool_offsets).values(writer=writer, **values)
        changed = await connection.execute(made.on_conflict_do_nothing())
    else:
        changed = await connection.execute(
            update(audit_spool_offsets)
            .where(
                _column.writer == writer,
                _column.segment == before.segment,
                _column.offset_bytes == before.offset,
            )
            .values(values)
        )
    if changed.rowcount != 1:
        raise OffsetMoved(f"the spool of {writer} is not shipped up to {before}")


async def forget_offset(engine: AsyncEngine, writer: str) -> None:
    """Once nothing of that spool is left. Raises what the database's absence raises."""
    async with engine.begin() as connection:
        await connection.execute(delete(audit_spool_offsets).where(_column.writer == writer))
