"""Conversations in Postgres: walked back from their last message, and erased."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content.answers import answer_content
from app.audit.content.erasure import erase
from app.audit.content.nodes import ROOT, StoredMessage, check_address, read_message_payload
from app.audit.content.read import conversation, message
from app.audit.content.redaction import Redaction
from app.store.database import create_engine
from app.store.tables import audit_messages
from app.store.transaction import DatabaseUnavailable
from tests.unit.audit.content.asked import ADDRESSES, TENANT, Process, assistant, json_of, user

DAY = date(2026, 11, 28)
SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = (SYSTEM, user("hi"), assistant("Hello."), user("bye"))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """With partitions for the days of these tests, and no message."""
    engine = create_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT audit_make_partitions(:first, :last)"),
            {"first": DAY, "last": DAY + timedelta(days=3)},
        )
        await connection.execute(audit_messages.delete())
    yield engine
    await engine.dispose()


async def ship(engine: AsyncEngine, payloads: Sequence[bytes], day: date = DAY) -> None:
    """As the shipper does: what is there already stays."""
    rows = [
        {
            "stored_on": day,
            "tenant": one.tenant,
            "address": one.address,
            "parent": one.parent,
            "salt": one.salt,
            "encoding": one.encoding,
            "body": one.body,
        }
        for one in map(read_message_payload, payloads)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(audit_messages).on_conflict_do_nothing(), rows)


async def asked(engine: AsyncEngine, *messages: Any, day: date = DAY) -> bytes:
    """The address of the last one."""
    content = Process(entries=100_000).ask(*messages)
    await ship(engine, content.payloads, day)
    return bytes.fromhex(content.content["prompt"])


def said(messages: Sequence[StoredMessage]) -> list[Any]:
    return [None if one.erased else json_of(one) for one in messages]


async def test_a_conversation_is_walked_back_to_its_beginning(engine: AsyncEngine) -> None:
    tip = await asked(engine, *TURNS)
    found = await conversation(engine, TENANT, tip, limit=100)
    assert said(found) == list(TURNS)
    assert all(one.intact for one in found)
    assert found[0].parent == ROOT
    assert found[-1].address == tip


async def test_an_answer_leads_to_what_was_asked(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"))
    messages = {0: {"role": "assistant", "content": "Hello.", "refusal": None}}
    content = answer_content(messages, TENANT, tip.hex(), ADDRESSES, Redaction())
    await ship(engine, content.payloads)
    found = await conversation(engine, TENANT, bytes.fromhex(content.answers["0"]), limit=100)
    assert said(found) == [user("hi"), assistant("Hello.")]


async def test_a_long_text_comes_back_as_it_was(engine: AsyncEngine) -> None:
    long = user("\x00 the quick brown fox \U0001f600 " * 10_000)
    tip = await asked(engine, long)
    (found,) = await conversation(engine, TENANT, tip, limit=100)
    assert json_of(found) == long
    assert len(found.body) < 10_000


async def test_of_a_longer_one_the_last_messages_are_shown(engine: AsyncEngine) -> None:
    tip = await asked(engine, *TURNS)
    found = await conversation(engine, TENANT, tip, limit=2)
    assert said(found) == list(TURNS[2:])
    assert found[0].parent != ROOT


async def test_two_thousand_messages_are_walked_back(engine: AsyncEngine) -> None:
    turns = [user(str(number)) for number in range(2_000)]
    tip = await asked(engine, *turns)
    assert said(await conversation(engine, TENANT, tip, limit=10_000)) == turns


async def test_messages_are_found_on_whatever_day_they_were_stored(engine: AsyncEngine) -> None:
    await asked(engine, *TURNS[:2], day=DAY)
    tip = await asked(engine, *TURNS, day=DAY + timedelta(days=1))
    async with engine.begin() as connection:  # the younger day has the end alone
        await connection.execute(
            audit_messages.delete().where(
                audit_messages.c.stored_on > DAY, audit_messages.c.parent == ROOT
            )
        )
    assert said(await conversation(engine, TENANT, tip, limit=100)) == list(TURNS)


async def test_the_newest_copy_is_the_one_that_is_read(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"), day=DAY)
    await asked(engine, user("hi"), day=DAY + timedelta(days=1))
    async with engine.begin() as connection:
        await connection.execute(
            audit_messages.update().where(audit_messages.c.stored_on == DAY).values(body=b"old")
        )
    found = await message(engine, TENANT, tip)
    assert found is not None
    assert found.intact
    assert [one.intact for one in await conversation(engine, TENANT, tip, limit=9)] == [True]


async def test_another_tenant_finds_nothing(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"))
    assert await conversation(engine, "other", tip, limit=100) == []
    assert await message(engine, "other", tip) is None


async def test_a_missing_message_ends_the_walk(engine: AsyncEngine) -> None:
    tip = await asked(engine, *TURNS)
    whole = await conversation(engine, TENANT, tip, limit=100)
    async with engine.begin() as connection:
        await connection.execute(
            audit_messages.delete().where(audit_messages.c.address == whole[1].address)
        )
    found = await conversation(engine, TENANT, tip, limit=100)
    assert said(found) == list(TURNS[2:])
    assert found[0].parent == whole[1].address
    assert await message(engine, TENANT, whole[1].address) is None


async def test_an_erased_message_leaves_its_place_and_all_others(engine: AsyncEngine) -> None:
    tip = await asked(engine, *TURNS)
    before = await conversation(engine, TENANT, tip, limit=100)
    assert await erase(engine, TENANT, [before[1].address]) == 1
    found = await conversation(engine, TENANT, tip, limit=100)
    assert said(found) == [SYSTEM, None, *TURNS[2:]]
    gone = found[1]
    assert gone == replace(before[1], salt=b"", encoding=gone.encoding, body=b"")
    assert gone.erased
    # With what is left, a guess of what it said cannot be confirmed.
    guess = orjson.dumps(user("hi"), option=orjson.OPT_SORT_KEYS)
    assert check_address(before[1].salt, gone.parent, guess, gone.address)
    assert not check_address(gone.salt, gone.parent, guess, gone.address)
    assert all(one.intact for one in (found[0], *found[2:]))


async def test_a_message_is_erased_on_all_days_and_of_one_tenant(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"), day=DAY)
    await asked(engine, user("hi"), day=DAY + timedelta(days=2))
    other = Process().ask(user("hi"), tenant="other")
    await ship(engine, other.payloads)
    assert await erase(engine, TENANT, [tip, b"\x01" * 32]) == 2
    assert await erase(engine, TENANT, [tip]) == 0
    kept = await message(engine, "other", bytes.fromhex(other.content["prompt"]))
    assert kept is not None
    assert kept.intact


async def test_what_is_shipped_late_does_not_come_back_on_its_day(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"))
    await erase(engine, TENANT, [tip])
    await asked(engine, user("hi"))
    found = await message(engine, TENANT, tip)
    assert found is not None
    assert found.erased


async def test_nothing_is_erased_where_nothing_is_named(engine: AsyncEngine) -> None:
    tip = await asked(engine, user("hi"))
    assert await erase(engine, TENANT, []) == 0
    assert await message(engine, TENANT, tip) is not None


async def test_an_unreachable_database_is_said_to_be(unused_port: int) -> None:
    engine = create_engine(f"postgresql://nobody@127.0.0.1:{unused_port}/none")
    try:
        with pytest.raises(DatabaseUnavailable):
            await conversation(engine, TENANT, b"\x01" * 32, limit=1)
        with pytest.raises(DatabaseUnavailable):
            await erase(engine, TENANT, [b"\x01" * 32])
    finally:
        await engine.dispose()
