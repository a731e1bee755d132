"""Secrets and texts are planted wherever the gateway takes them, everything is done that makes it
talk, and whatever came out is searched: its output, answers, metrics, traces, files, records."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy.engine import make_url

from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.conftest import execute
from tests.operations.canaries import HIDDEN, SECRETS, TEXTS, Journal
from tests.operations.canary_requests import (
    asked,
    bearer,
    good_requests,
    looked_at,
    refused_requests,
    requests_that_workers_fail,
)
from tests.operations.commands_said import run_command
from tests.operations.defective_gateway import CRASH
from tests.operations.watched_gateway import Watched, environment_of, watched
from tests.support.collector import Collector
from tests.support.conditions import eventually_found
from tests.support.gateway import CHAT
from tests.support.redis_server import RedisServer
from tests.support.scripted_worker import ScriptedWorker
from tests.support.serving import GATEWAY

WITHIN_SECONDS = 120.0  # only spent on failure
DEFECTIVE = (sys.executable, "-m", "tests.operations.defective_gateway")


@dataclass(frozen=True)
class Planted:
    """Real parts, each with a secret, and the settings that name them."""

    settings: Mapping[str, object]
    object_store: Mapping[str, str]  # the environment in which the AWS tools look
    database_url: str
    key: str  # a good one
    worker: ScriptedWorker
    redis: RedisServer
    collector: Collector
    home: Path


@pytest.fixture
def guarded_redis(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        client.config_set("requirepass", SECRETS["redis_password"])
    return redis_server


@pytest.fixture
async def planted(
    database_url: str, guarded_redis: RedisServer, tmp_path: Path, unused_port: int
) -> AsyncIterator[Planted]:
    url = make_url(database_url)
    if url.password:
        pytest.skip("it plants a password of its own, and this database asks for the right one")
    url = url.set(password=SECRETS["database_password"])
    given_url = url.render_as_string(hide_password=False)
    engine = create_engine(given_url)
    try:
        pepper = SECRETS["key_pepper"].encode()
        keys = KeyStore(engine, pepper, cache_seconds=5, cache_entries=10)
        policy = Policy(concurrency=100, audit="full+reasoning")
        key = (await keys.create(KeyDraft(name="test", tenant="acme", policy=policy))).secret
    finally:
        await engine.dispose()
    async with (
        ScriptedWorker(api_key=SECRETS["worker_key"]) as worker,
        Collector() as collector,
    ):
        settings = {
            "database_url": given_url,
            "redis_url": f"redis://:{SECRETS['redis_password']}@127.0.0.1:{guarded_redis.port}/0",
            "workers": json.dumps([worker.settings()]),
            "audit_directory": tmp_path / "spool",
            "audit_checkpoints": "s3://bucket/checkpoints",
            "otlp_endpoint": collector.url,
            "otlp_headers": f"x-key={SECRETS['collector_key']}",
            "inter_token_seconds": 2.0,  # a worker on a busy machine is not silent so long
            "failed_authentications_per_minute": 10_000,
            "drain_grace_seconds": 0,
            "log_level": "debug",
            **{
                name: SECRETS[name]
                for name in ("key_pepper", "admin_token", "sealing_key", "audit_signing_key")
            },
        }
        object_store = {
            "AWS_ACCESS_KEY_ID": "AKIACANARY",
            "AWS_SECRET_ACCESS_KEY": SECRETS["s3_secret"],
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{unused_port}",
            "AWS_MAX_ATTEMPTS": "1",
        }
        yield Planted(
            settings, object_store, database_url, key, worker, guarded_redis, collector, tmp_path
        )


def environment(planted: Planted) -> dict[str, str]:
    return environment_of(planted.settings, planted.home) | planted.object_store


async def outage_of_the_database(gateway: Watched, planted: Planted, postgres_url: str) -> None:
    name = make_url(planted.database_url).database
    await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await execute(
        postgres_url,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608 - a name of ours
    )
    for where, key in (("good", planted.key), ("unknown", SECRETS["unknown_key"])):
        await gateway.ask(
            f"{where}, database away", "POST", CHAT, headers=bearer(key), json=asked()
        )
    admin = bearer(SECRETS["admin_token"])
    status, _ = await gateway.ask("database away, admin", "GET", "/admin/v1/keys", headers=admin)
    assert status == 503
    await execute(postgres_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def outage_of_redis(gateway: Watched, planted: Planted) -> None:
    with Redis(port=planted.redis.port, password=SECRETS["redis_password"]) as client:
        for key in client.scan_iter(count=1_000):
            gateway.journal.note("redis", key + (client.dump(key) or b""))
    planted.redis.kill()
    for _ in range(3):
        await gateway.ask(
            "good, redis away", "POST", CHAT, headers=bearer(planted.key), json=asked(stream=True)
        )


async def crashes(gateway: Watched, planted: Planted) -> None:
    messages = asked()["messages"] + [{"role": "user", "content": CRASH}]
    for stream in (False, True):
        status, body = await gateway.ask(
            "crash",
            "POST",
            CHAT,
            headers=bearer(planted.key),
            json=asked(messages=messages, stream=stream),
        )
        assert status == 500, body


async def asked_of(gateway: Watched, planted: Planted) -> None:
    await good_requests(gateway, planted.worker, planted.key)
    await refused_requests(gateway, planted.key)
    await requests_that_workers_fail(gateway, planted.worker, planted.key)
    await looked_at(gateway)
    gateway.note_command_lines()


async def rows_of(url: str, journal: Journal) -> None:
    """Every table, as text; what is stored as bytes is there in hexadecimal digits."""
    engine = create_engine(url)
    try:
        async with engine.connect() as connection:
            tables = await connection.exec_driver_sql(
                "SELECT relname FROM pg_class WHERE relkind IN ('r') AND relnamespace = "
                "'public'::regnamespace"
            )
            for (table,) in tables.all():
                rows = await connection.exec_driver_sql(f'SELECT t::text FROM "{table}" t')  # noqa: S608 - names from the catalogue
                journal.note(f"table: {table}", "\n".join(row for (row,) in rows.all()))
    finally:
        await engine.dispose()


async def commands(planted: Planted, journal: Journal) -> None:
    """Those that read, against the same parts; Redis is away by now."""
    given = environment(planted)
    del given["TMPDIR"]  # of this process
    for words in (
        ["keys", "list"],
        ["tenants", "list"],
        ["config", "print", "--all"],
        ["config", "print", "--format", "yaml"],
        ["config", "check"],
        ["doctor", "--timeout", "10"],
        ["doctor", "--json", "--no-worker-questions"],
        ["audit", "search", "--all", "--json"],
        ["audit", "export", "--with-content", "-o", str(planted.home / "export.jsonl")],
    ):
        await asyncio.to_thread(run_command, words, given, journal)
    exported = planted.home / "export.jsonl"
    journal.note("content: exported", exported.read_bytes())
    exported.unlink()


def assert_the_canaries_did_arrive(journal: Journal) -> None:
    """Otherwise nothing was tested: the texts are in what is kept of requests, and the log told of
    what happened."""
    exported = journal.found["content: exported"].decode()
    for name in ("system", "prompt", "thought", "answer", "arguments", "tool", "user"):
        assert TEXTS[name] in exported, name
    output = journal.found["file: stdout.txt"].decode()
    events = {json.loads(line)["event"] for line in output.splitlines()}
    assert events >= {
        "request", "worker_refused", "worker_failed", "worker_stream_broken", "refused_at_edge",
        "limits_degraded", "audit_checkpoint_place_failed", "request_crashed", "thread_crashed",
        "Task exception was never retrieved",
    }  # fmt: skip
    assert b"***" in journal.found["content: exported"]


def assert_nothing_leaked(journal: Journal, key: str) -> None:
    secrets = {**SECRETS, "api_key": key}
    # A client may be told what it said itself; the worker said the token again, as it was asked to.
    assert journal.leaks(secrets, but=("answer: client's own",)) == []
    kept = ("content: ", "table: audit_messages", "file: spool")
    assert journal.leaks(TEXTS, but=("answer: good", "answer: client's own", *kept)) == []
    hidden = {name: TEXTS[name] for name in HIDDEN}
    assert journal.leaks(hidden, but=kept) == []


async def test_no_secret_and_no_text_comes_out_whatever_happens(
    planted: Planted, postgres_url: str
) -> None:
    journal = Journal()
    command = [*DEFECTIVE, "serve"]
    async with watched(command, environment(planted), planted.home, journal) as gateway:
        await crashes(gateway, planted)
        await asked_of(gateway, planted)
        await outage_of_the_database(gateway, planted, postgres_url)
        await outage_of_redis(gateway, planted)
        await until_shipped(gateway)
        assert await gateway.stop() == 0
    await commands(planted, journal)
    await rows_of(planted.database_url, journal)
    for number, body in enumerate(planted.collector.bodies):
        journal.note(f"traces: {number}", body)
    assert planted.collector.bodies
    assert_the_canaries_did_arrive(journal)
    assert_nothing_leaked(journal, planted.key)


async def test_none_comes_out_of_several_processes_that_read_their_secrets_from_files(
    planted: Planted,
) -> None:
    """What a process is given by its parent was read there."""
    journal = Journal()
    given = environment(planted)
    with tempfile.TemporaryDirectory() as mounted:
        for name in ("DATABASE_URL", "REDIS_URL", "KEY_PEPPER", "ADMIN_TOKEN", "SEALING_KEY"):
            path = Path(mounted) / name
            path.write_text(given.pop(f"GATEWAY_{name}"))
            given[f"GATEWAY_{name}_FILE"] = str(path)
        command = [str(GATEWAY), "serve", "--processes", "2"]
        async with watched(command, given, planted.home, journal) as gateway:
            await asked_of(gateway, planted)
            assert await gateway.stop() == 0
    assert_nothing_leaked(journal, planted.key)


async def until_shipped(gateway: Watched) -> None:
    async def shipped() -> bool | None:
        _, page = await gateway.ask("/metrics", "GET", "/metrics")
        lines = page.decode().splitlines()
        backlog = [line for line in lines if line.startswith("gateway_audit_backlog_bytes")]
        return True if all(line.endswith(" 0.0") for line in backlog) else None

    await eventually_found(shipped, WITHIN_SECONDS, "the records are in the database")
