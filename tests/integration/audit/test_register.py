"""The register of writers: each row with the hash of the one before it."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import pairwise
from typing import Any

import orjson
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import ChainHead
from app.audit.register import register, register_head
from app.audit.spool.offsets import move_offset
from app.audit.spool.segments import Position
from app.store.database import create_engine
from app.store.tables import audit_register

AT = 1_790_000_000_123_456


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("TRUNCATE audit_register, audit_spool_offsets")
    yield engine
    await engine.dispose()


def registration(writer: str) -> ChainHead:
    return ChainHead(1, sha256(writer.encode()).digest())


async def enter(engine: AsyncEngine, writer: str) -> tuple[int, bytes] | None:
    async with engine.begin() as connection:
        return await register(connection, writer, registration(writer), AT)


async def rows(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        wanted = select(audit_register).order_by(audit_register.c.number)
        return list((await connection.execute(wanted)).all())


async def test_each_row_has_the_hash_of_the_one_before(engine: AsyncEngine) -> None:
    assert await register_head(engine) is None
    heads = [await enter(engine, writer) for writer in ("a", "b", "c")]
    found = await rows(engine)
    assert [(row.number, row.hash) for row in found] == heads
    assert await register_head(engine) == heads[-1]
    assert all(sha256(row.entry).digest() == row.hash for row in found)
    entries = [orjson.loads(row.entry) for row in found]
    assert [entry["previous"] for entry in entries] == [
        None,
        *(row.hash.hex() for row in found[:2]),
    ]
    assert entries[1] == {
        "number": 2,
        "writer": "b",
        "registration": registration("b").hash.hex(),
        "previous": found[0].hash.hex(),
        "witnessed": {},
    }
    assert found[1].registered_at.timestamp() == AT / 1e6


async def test_a_row_says_how_far_the_chains_of_others_were_shipped(engine: AsyncEngine) -> None:
    chain = ChainHead(7, bytes(31) + b"\x07")
    async with engine.begin() as connection:
        await move_offset(connection, "a", None, Position(1, 99), chain)
        await move_offset(connection, "b", None, Position(1, 99), ChainHead(1, bytes(32)))
        # As an older version wrote it.
        await connection.execute(
            text(
                "INSERT INTO audit_spool_offsets (writer, segment, offset_bytes) VALUES ('o', 1, 1)"
            )
        )
    await enter(engine, "b")
    (row,) = await rows(engine)
    assert orjson.loads(row.entry)["witnessed"] == {"a": [7, chain.hash.hex()]}


async def test_a_writer_is_registered_once(engine: AsyncEngine) -> None:
    await enter(engine, "a")
    assert await enter(engine, "a") is None
    assert len(await rows(engine)) == 1


async def test_those_who_register_at_once_make_one_chain(
    database_url: str, engine: AsyncEngine
) -> None:
    others = [create_engine(database_url, connections=1) for _ in range(8)]
    try:
        heads = await asyncio.gather(
            *(enter(each, f"w{number}") for number, each in enumerate(others))
        )
    finally:
        for each in others:
            await each.dispose()
    found = await rows(engine)
    assert sorted(heads) == [(row.number, row.hash) for row in found]  # type: ignore[type-var]  # none was registered before
    assert [row.number for row in found] == list(range(1, 9))
    for before, row in pairwise(found):
        assert orjson.loads(row.entry)["previous"] == before.hash.hex()
