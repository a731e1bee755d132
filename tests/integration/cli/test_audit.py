import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from app.cli.audit import audit
from app.store.database import create_engine
from app.store.tables import audit_records

Run = Callable[..., Result]
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def seeded(database_url: str) -> str:
    """Four requests: one done, one refused, one that never ended, one of ten days ago."""
    common = {"route": "/v1/chat/completions", "tenant": "acme", "key_id": "key_a"}
    common |= {"model": "empero-ai/Qwythos-9B-Claude-Mythos-5-1M"}
    rows = [
        {"request_id": "req_done", "outcome": "completed", "status": 200, "minutes": 1}
        | {"prompt_tokens": 12, "completion_tokens": 34, "duration_seconds": 1.5}
        | {"user_agent": "evil\x1b[2J\nagent", "parameters": {"temperature": 0.6}}
        | {"findings": {"stopped": "loop_in_thought", "hidden": {"markup": 2}}}
        | {"charged_tokens": 40, "settled_at": NOW},
        {"request_id": "req_refused", "outcome": "refused", "status": 429, "minutes": 120},
        {"request_id": "req_open", "minutes": 180},
        {"request_id": "req_old", "outcome": "completed", "status": 200, "minutes": 14_400},
    ]

    async def put() -> None:
        engine = create_engine(database_url)
        async with engine.begin() as connection:
            for row in rows:
                minutes = timedelta(minutes=int(str(row.pop("minutes"))))
                values = common | row | {"received_at": NOW - minutes}
                await connection.execute(insert(audit_records).values(**values))
        await engine.dispose()

    asyncio.run(put())
    return database_url


@pytest.fixture
def run(seeded: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`gateway audit ...` on the seeded database."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", seeded)
    return lambda *arguments: CliRunner().invoke(audit, list(arguments))


def found(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["request_id"] for line in result.stdout.splitlines()]


def test_a_search_lists_the_last_days_newest_first(run: Run) -> None:
    assert found(run("search", "--json")) == ["req_done", "req_refused", "req_open"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--outcome", "refused"), ["req_refused"]),
        (("--outcome", "unfinished"), ["req_open"]),
        (("--limit", "1"), ["req_done"]),
        (("--since", "30d", "--outcome", "completed"), ["req_done", "req_old"]),
        (("--since", "90m"), ["req_done"]),
        (("--key", "key_a", "--limit", "2"), ["req_done", "req_refused"]),
        (("--key", "key_b"), []),
        (("--tenant", "other"), []),
        (("--model", "qwythos"), []),
    ],
)
def test_each_option_narrows_the_search(
    run: Run, arguments: tuple[str, ...], expected: list[str]
) -> None:
    assert found(run("search", "--json", *arguments)) == expected


def test_a_person_gets_a_table(run: Run) -> None:
    head, first, *rest = run("search").stdout.splitlines()
    assert head.split()[:3] == ["TIME", "REQUEST", "STATUS"]
    assert first.split()[2:] == [
        "req_done",
        "200",
        "completed",
        "acme",
        "key_a",
        "...9B-Claude-Mythos-5-1M",
        "12",
        "34",
        "1.50",
        "hidden,stopped",
    ]
    assert len(rest) == 2
    assert "unfinished" in rest[1]
    assert rest[1].split()[-1] == "-"


def test_one_record_is_shown_whole_and_harmless(run: Run) -> None:
    shown = run("show", "req_done").stdout
    assert "\x1b" not in shown
    assert "evil\\x1b[2J\\nagent" in shown
    assert '{"temperature": 0.6}' in shown
    assert '{"hidden": {"markup": 2}, "stopped": "loop_in_thought"}' in shown
    lines = dict(line.split(None, 1) for line in shown.splitlines())
    assert lines["charged_tokens"] == "40"
    assert lines["settled_at"] == NOW.strftime("%Y-%m-%d %H:%M:%SZ")
    record = json.loads(run("show", "req_done", "--json").stdout)
    assert (record["charged_tokens"], record["settled_at"]) == (40, NOW.isoformat())
    assert record["received_at"] == (NOW - timedelta(minutes=1)).isoformat()
    assert record["parameters"] == {"temperature": 0.6}
    assert record["findings"] == {"hidden": {"markup": 2}, "stopped": "loop_in_thought"}


def test_a_request_that_was_charged_nothing_says_so(run: Run) -> None:
    record = json.loads(run("show", "req_refused", "--json").stdout)
    assert (record["charged_tokens"], record["settled_at"]) == (None, None)
    shown = run("show", "req_refused").stdout.splitlines()
    assert ["settled_at", "-"] in [line.split() for line in shown]


def test_findings_come_with_a_search_too(run: Run) -> None:
    lines = run("search", "--json").stdout.splitlines()
    found = {record["request_id"]: record["findings"] for record in map(json.loads, lines)}
    assert found["req_done"]["stopped"] == "loop_in_thought"
    assert found["req_refused"] == found["req_open"] == {}


def test_an_unknown_request_ends_with_one_line(run: Run) -> None:
    result = run("show", "req_none")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no audit record with the request id 'req_none'\n"


def test_an_unknown_outcome_is_refused(run: Run) -> None:
    assert run("search", "--outcome", "fine").exit_code == 2
