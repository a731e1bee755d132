"""Gateways killed again and again under load, at whatever they do: starting, recovering what others
have left, serving, shipping. Nobody has seen what the log does not have."""

import json
import random
from asyncio import TaskGroup
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.checkpoints.signing import derived_signing_keys
from app.settings import MIB
from app.store.api_key import KeyDraft
from app.store.keys import KeyStore
from tests.integration.audit.promises.asking import WITHIN_SECONDS, spools
from tests.integration.audit.promises.fleet import Fleet
from tests.integration.audit.promises.nursery import nursery
from tests.integration.audit.promises.whole_log import Logged, read_log
from tests.integration.audit.promises.witnesses import Seen, Witnesses
from tests.integration.audit.replica import verified
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import PEPPER, running_gateway
from tests.support.scripted_worker import ScriptedWorker

SEED = 7
KILLS = 200
SERVING = 3  # at once
STILLBORN = 0.2  # killed while they start, when they take over what others have left
CLIENTS = 8
MAX_ANSWERS = 20_000  # more than are asked for
LATER_SECONDS = 7_200.0  # by then all that no checkpoint covers is found

SETTINGS = {
    "key_pepper": PEPPER,
    "audit_segment_bytes": MIB,
    "audit_flush_seconds": 0.05,
    "audit_chunk_seconds": 0.02,
    "audit_checkpoint_seconds": 0.2,
    # No disk fails here, and no database: one that is slow for a while refuses nobody.
    "audit_write_seconds": 60,
    "key_outage_seconds": 600,
}


def answer(number: int, chance: random.Random) -> Answer:
    """Unlike any other. Quick ones and slow ones, so that a kill finds some at every point."""
    words = [f"Answer {number}: ", *(f"word {word}, " for word in range(chance.choice([1, 8, 30])))]
    return Answer(
        words,
        prefill_seconds=chance.choice([0, 0, 0.05]),
        pace_seconds=chance.choice([0, 0.005, 0.01]),
    )


@pytest.fixture
async def clients(engine: AsyncEngine) -> AsyncIterator[Witnesses]:
    keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
    key = (await keys.create(KeyDraft(name="test", tenant="acme"))).secret
    clients = Witnesses(key, random.Random(SEED))
    async with aiohttp.ClientSession() as http, TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(clients.talk(http))
        yield clients
        clients.stopped = True


@pytest.mark.usefixtures("quick_look")
async def test_nobody_has_seen_what_the_log_does_not_have_however_often_gateways_are_killed(
    clients: Witnesses, engine: AsyncEngine, database_url: str, worker: ScriptedWorker, root: Path
) -> None:
    chance = random.Random(SEED)
    answers = [answer(number, chance) for number in range(MAX_ANSWERS)]
    worker.answers(*answers)
    settings = {
        "database_url": database_url,
        "workers": json.dumps([worker.settings()]),
        "audit_directory": root,
    }
    async with nursery() as gateways:
        fleet = Fleet(gateways, clients, chance, settings | SETTINGS, SERVING, STILLBORN)
        await fleet.replenish()
        while fleet.started - len(fleet.serving) < KILLS:
            await fleet.kill_one()
            await fleet.replenish()
        for serving in list(fleet.serving):
            await fleet.kill(serving)
    async with running_gateway(database_url, [worker], audit_directory=root):
        await eventually(
            lambda: len(spools(root)) == 1, WITHIN_SECONDS, "what all have left is shipped"
        )

    assert spools(root) == []
    assert not clients.refusals
    said = zip(worker.requests, answers, strict=False)
    at_worker = {str(request.header("x-request-id")): "".join(one.content) for request, one in said}
    assert len(at_worker) == len(worker.requests)
    logged = await read_log(engine)
    check_each_has_one_end(logged, at_worker)
    for request_id, seen in clients.seen.items():
        check(seen, logged[request_id], at_worker[request_id])
    await check_chains(engine, root, len(clients.served))
    check_kills_were_where_they_hurt(clients, logged)


def check_each_has_one_end(logged: dict[str, Logged], at_worker: dict[str, str]) -> None:
    assert logged.keys() >= at_worker.keys()  # more were killed before they were sent on
    for request_id, one in logged.items():
        assert len(one.intents) == 1
        assert one.end in ("completed", "crashed")
        assert at_worker.get(request_id, "").startswith(one.answer)


def check(seen: Seen, logged: Logged, whole: str) -> None:
    """One request, as its client saw it and as the log has it."""
    assert whole.startswith(seen.text)
    if seen.any_output:
        assert logged.asked == seen.asked
    if logged.end == "completed":
        assert logged.answer == whole
    if seen.ended:
        assert logged.end == "completed"
        assert seen.text == whole
    elif seen.strict:
        assert logged.answer.startswith(seen.text)


async def check_chains(engine: AsyncEngine, root: Path, served: int) -> None:
    """Each is whole, signed to its end, and registered."""
    keys = derived_signing_keys(PEPPER.encode()).public_keys
    report = await verified(engine, root, keys=keys, later_seconds=LATER_SECONDS)
    assert report.findings.in_order() == []
    assert report.notes == []
    assert report.not_covered == []
    assert report.chains >= served
    assert report.register_rows == report.chains
    async with engine.connect() as connection:
        closed = await connection.scalar(
            text(
                "SELECT count(DISTINCT writer) FROM audit_events WHERE kind = 6 AND "
                "(convert_from(payload, 'UTF8')::jsonb -> 'closed')::boolean"
            )
        )
    assert closed == report.chains


def check_kills_were_where_they_hurt(clients: Witnesses, logged: dict[str, Logged]) -> None:
    kinds = Counter(
        (
            one.end,
            "answer" if one.answer else "body" if one.outcome["content"] else "intent",
        )
        for one in logged.values()
    )
    assert kinds["crashed", "body"] > KILLS / 10
    assert kinds["crashed", "answer"] > KILLS / 10
    assert sum(seen.ended for seen in clients.seen.values()) > 5 * KILLS
    strict = [id for id, seen in clients.seen.items() if seen.strict and not seen.ended]
    assert any(logged[request_id].answer for request_id in strict)
