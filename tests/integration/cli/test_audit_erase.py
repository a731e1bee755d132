"""`gateway audit erase` and `prune`: what goes, what stays, and what is recorded of it."""

import asyncio
import getpass
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.spool.frames import FrameKind
from app.cli import main
from app.store.database import create_engine
from app.store.grants import grant
from tests.integration.cli.answered import answered, refused
from tests.support.audit_events import EventLog

Command = Callable[..., Result]
Value = TypeVar("Value")

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "My name is Ada."}
SECOND = {"role": "assistant", "content": "Hello, Ada."}
THIRD = {"role": "user", "content": "What am I called?"}
FOURTH = {"role": "assistant", "content": "Ada."}
WHY = ("--reason", "asked for by Ada")
DAY = 24 * 60  # minutes


def on(url: str, step: Callable[[AsyncEngine], Awaitable[Value]]) -> Value:
    async def run() -> Value:
        engine = create_engine(url)
        try:
            return await step(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def rows(url: str, statement: str, **values: object) -> list[Any]:
    async def step(engine: AsyncEngine) -> list[Any]:
        async with engine.connect() as connection:
            return list(await connection.execute(text(statement), values))

    return on(url, step)


def noted(url: str, kind: FrameKind) -> list[dict[str, Any]]:
    """What was recorded of that kind."""
    statement = "SELECT payload FROM audit_events WHERE kind = :kind ORDER BY recorded_at"
    payloads = rows(url, statement, kind=int(kind))
    return [json.loads(payload) for (payload,) in payloads]


@pytest.fixture(autouse=True)
def conversation(database_url: str) -> str:
    """Two turns of one, and another that shares its system message; its address."""

    async def step(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE audit_events, audit_messages"))
        log = EventLog(engine, uuid.uuid4().hex)
        for request_id, minutes, messages, answer in (
            ("req_1", 3, [SYSTEM, FIRST], SECOND),
            ("req_2", 2, [SYSTEM, FIRST, SECOND, THIRD], FOURTH),
            ("req_3", 1, [SYSTEM, {"role": "user", "content": "x"}], {"content": "y"}),
        ):
            sent = {"model": "qwythos", "messages": messages}
            await log.request(request_id, minutes, tenant="acme", sent=sent, answers=[answer])

    on(database_url, step)
    return str(
        rows(database_url, "SELECT conversation FROM audit_events WHERE request_id = 'req_1' "
             "AND kind = 2")[0][0]
    )  # fmt: skip


def states(command: Command, request_id: str) -> list[str]:
    exchange = answered(command("audit", "show", request_id, "--json"))["exchange"]
    return [said["state"] for said in [*exchange["messages"], *exchange["answers"].values()]]


def test_a_conversation_is_erased_with_all_of_its_turns_and_no_other(
    command: Command, conversation: str, database_url: str
) -> None:
    erase = ("audit", "erase", "--conversation", conversation, "--tenant", "acme", *WHY)
    result = command(*erase, "--yes")
    by = noted(database_url, FrameKind.ERASURE)[0]["by"]
    assert result.stdout.splitlines()[-2:] == [
        "kept, as others may share it: 2; --with-system erases that, too",
        f"erased 4 messages of acme, recorded as done by {by}",
    ]
    assert by.startswith(f"{getpass.getuser()}@")
    assert states(command, "req_1") == ["kept", "erased", "erased"]
    assert states(command, "req_2") == ["kept", "erased", "erased", "erased", "erased"]
    assert states(command, "req_3") == ["kept", "kept", "kept"]
    assert not rows(
        database_url, "SELECT 1 FROM audit_messages WHERE encode(body, 'escape') ~ 'Ada'"
    )
    shown = command("audit", "show", "req_2").stdout
    assert "Ada." not in shown
    assert f"[2] erased on {datetime.now(UTC):%Y-%m-%d} " in shown
    assert f"by {by}: asked for by Ada\n" in shown
    again = command(*erase, "--yes", "--with-system")
    assert again.stdout.splitlines()[-1].startswith("erased 2 messages of acme")
    assert states(command, "req_3") == ["erased", "kept", "kept"]


def test_the_second_time_nothing_is_left_and_nothing_is_recorded(
    command: Command, conversation: str, database_url: str
) -> None:
    erase = ("audit", "erase", "--request", "req_2", "--tenant", "acme", *WHY, "--yes")
    assert command(*erase).exit_code == 0
    again = command(*erase)
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "nothing is left to erase")
    assert len(noted(database_url, FrameKind.ERASURE)) == 1


def test_nothing_is_erased_before_the_event_is_in_the_database(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = ("audit", "erase", "--request", "req_1", "--tenant", "acme", *WHY, "--yes")
    with monkeypatch.context() as slow:
        slow.setattr("app.audit.noting.SHIP_SECONDS", 0.0)
        assert "not in the database (not in time)" in refused(command(*erase))
    assert states(command, "req_1") == ["kept", "kept", "kept"]
    assert noted(database_url, FrameKind.ERASURE) == []
    assert command(*erase).exit_code == 0
    assert states(command, "req_1") == ["kept", "erased", "erased"]


def test_the_event_names_what_was_erased_and_stands_in_a_closed_chain(
    command: Command, database_url: str
) -> None:
    shown = answered(command("audit", "show", "req_1", "--json"))
    address = shown["exchange"]["messages"][1]["address"]
    wanted = ("--message", address, "--tenant", "acme")
    assert command("audit", "erase", *wanted, *WHY, "--yes").exit_code == 0
    (event,) = noted(database_url, FrameKind.ERASURE)
    assert (event["tenant"], event["addresses"]) == ("acme", [address])
    assert event["reason"] == "asked for by Ada"
    kinds = rows(
        database_url,
        "SELECT kind FROM audit_events WHERE writer = (SELECT writer FROM audit_events "
        "WHERE kind = :kind) ORDER BY sequence",
        kind=int(FrameKind.ERASURE),
    )
    assert [kind for (kind,) in kinds] == [
        FrameKind.REGISTRATION,
        FrameKind.ERASURE,
        FrameKind.CHECKPOINT,
    ]
    assert noted(database_url, FrameKind.CHECKPOINT)[-1]["closed"] is True


def test_parameters_go_too_where_they_name_a_person(command: Command, database_url: str) -> None:
    async def step(engine: AsyncEngine) -> None:
        log = EventLog(engine, uuid.uuid4().hex)
        sent = {"model": "qwythos", "user": "ada", "messages": [FIRST]}
        await log.request("req_named", 1, tenant="acme", sent=sent, answers=[SECOND])

    on(database_url, step)
    erase = ("audit", "erase", "--request", "req_named", "--tenant", "acme", *WHY)
    lines = command(*erase, "--dry-run").stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["WHAT", "user", "assistant", "parameters"]
    assert command(*erase, "--yes").exit_code == 0
    exchange = answered(command("audit", "show", "req_named", "--json"))["exchange"]
    assert exchange["parameters"]["state"] == "erased"


def test_nothing_is_done_in_a_dry_run_nor_without_a_yes(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase = ("audit", "erase", "--request", "req_1", "--tenant", "acme", *WHY)
    dry = command(*erase, "--dry-run")
    assert dry.exit_code == 0
    assert "My name is Ada." in dry.stdout
    for answer, exit_code in (("n\n", 1), ("", 1), ("y\n", 0)):
        assert noted(database_url, FrameKind.ERASURE) == []
        assert states(command, "req_1") == ["kept", "kept", "kept"]
        result = CliRunner().invoke(main, erase, input=answer)
        assert result.exit_code == exit_code
    assert states(command, "req_1") == ["kept", "erased", "erased"]


def test_what_would_be_erased_cannot_steer_the_terminal(
    command: Command, database_url: str
) -> None:
    async def step(engine: AsyncEngine) -> None:
        log = EventLog(engine, uuid.uuid4().hex)
        sent = {"messages": [{"role": "user\x1b[2J", "content": "\x1b]0;x\x07\u202e"}]}
        await log.request("req_steers", 1, tenant="acme", sent=sent)

    on(database_url, step)
    erase = ("audit", "erase", "--request", "req_steers", "--tenant", "acme", *WHY)
    assert command(*erase, "--dry-run").stdout.isascii()
    assert "\x1b" not in command(*erase, "--dry-run").stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "give one of --request, --conversation and --message"),
        (("--request", "x", "--message", "0" * 64), "give one of --request, --conversation and"),
        (("--message", "zz"), "--message: 'zz' is no address of 64 hexadecimal digits"),
        (("--conversation", "00"), "--conversation: '00' is no address of 64 hexadecimal digits"),
        (("--request", "req_none"), "there is no audit record of 'other' with the request id"),
        (("--request", "req_1"), "there is no audit record of 'other' with the request id 'req_1'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    command: Command, arguments: tuple[str, ...], line: str
) -> None:
    result = command("audit", "erase", "--tenant", "other", *WHY, *arguments)
    assert refused(result).startswith(line)


@pytest.mark.parametrize("option", ["--conversation", "--message"])
def test_another_tenants_messages_are_not_there_and_that_is_told(
    command: Command, conversation: str, option: str
) -> None:
    """Whoever has taken the wrong tenant may not believe that all is gone."""
    result = command("audit", "erase", option, conversation, "--tenant", "other", *WHY, "--yes")
    assert refused(result).startswith("'other' has no ")
    assert states(command, "req_1") == ["kept", "kept", "kept"]


@pytest.mark.parametrize("reason", ["", "  "])
def test_nothing_is_erased_for_no_reason(command: Command, conversation: str, reason: str) -> None:
    erase = ("audit", "erase", "--conversation", conversation, "--tenant", "acme", "--yes")
    assert "--reason" in refused(command(*erase, "--reason", reason))
    assert states(command, "req_1") == ["kept", "kept", "kept"]


@pytest.fixture
def as_gateway(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command runs as a role that may only add, as a gateway does."""
    role = f"gateway_{uuid.uuid4().hex[:12]}"

    async def run(engine: AsyncEngine, *statements: str) -> None:
        async with engine.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))

    on(database_url, lambda engine: run(engine, f"CREATE ROLE {role} LOGIN"))
    on(database_url, lambda engine: grant(engine, role))
    url = make_url(database_url).set(username=role)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", url.render_as_string(hide_password=False))
    yield
    on(database_url, lambda engine: run(engine, f"DROP OWNED BY {role}", f"DROP ROLE {role}"))


def test_whoever_may_not_erase_is_told_so_before_anything_is_recorded(
    command: Command, database_url: str, as_gateway: None
) -> None:
    erase = ("audit", "erase", "--request", "req_1", "--tenant", "acme", *WHY, "--yes")
    result = CliRunner().invoke(main, erase)
    assert refused(result) == (
        "the database lets this user only add to the audit log: erase as the tables' owner"
    )
    result = CliRunner().invoke(main, ("audit", "prune", "--keep", "90d", "--yes"))
    assert refused(result) == "old records are dropped by the owner of the tables only"
    assert noted(database_url, FrameKind.ERASURE) == []
    assert noted(database_url, FrameKind.RETENTION) == []


# -- prune


def test_old_days_are_dropped_and_where_each_chain_then_begins_is_recorded(
    command: Command, database_url: str
) -> None:
    writer = uuid.uuid4().hex

    async def step(engine: AsyncEngine) -> None:
        log = EventLog(engine, writer)
        await log.request("req_old", 100 * DAY, tenant="acme")
        await log.request("req_kept", 80 * DAY, tenant="acme")

    on(database_url, step)
    before = (datetime.now(UTC) - timedelta(days=90)).date()
    old = f"audit_events_{datetime.now(UTC) - timedelta(days=100):%Y%m%d}"
    dry = command("audit", "prune", "--keep", "90d", "--dry-run")
    assert dry.stdout == f"older than {before}: records of 1 chain\n"
    result = command("audit", "prune", "--keep", "90d", "--yes")
    assert f"dropped {old}" in result.stdout.splitlines()
    (event,) = noted(database_url, FrameKind.RETENTION)
    assert (event["before"], event["chains"].keys()) == (before.isoformat(), {writer})
    assert event["chains"][writer][0] == 2
    assert command("audit", "show", "req_old").exit_code == 1
    assert command("audit", "show", "req_kept").exit_code == 0
    again = command("audit", "prune", "--keep", "90d", "--yes")
    assert again.stdout.splitlines() == [
        f"older than {before}: records of 0 chains",
        "nothing is that old",
    ]
    assert len(noted(database_url, FrameKind.RETENTION)) == 1


def test_less_than_a_month_is_said_to_touch_budgets(command: Command) -> None:
    result = command("audit", "prune", "--keep", "30d", "--dry-run")
    assert result.stdout.splitlines()[1].startswith("budgets of a month are counted from the log")
    assert command("audit", "prune", "--keep", "1h", "--dry-run").exit_code == 2
