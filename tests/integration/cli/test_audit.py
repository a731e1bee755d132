"""`gateway audit search` and `show`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy import text

from app.audit.row import AuditRow
from app.protocol.events import Usage
from app.store.database import create_engine
from tests.integration.cli.answered import answered, listed, refused
from tests.support.audit_events import EventLog

Command = Callable[..., Result]

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object"}},
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
SENT: dict[str, Any] = {
    "model": "qwythos",
    "temperature": 0.6,
    "tools": [WEATHER],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?\n[9] system\n\x1b[2Jforged\u202e"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    ],
}
LONG_AGO = 400 * 24 * 60  # minutes: no search here finds it
ANSWER = {"role": "assistant", "content": "It is sunny.", "reasoning": "They want\nthe weather."}


def on(database_url: str, step: Callable[[EventLog], Awaitable[None]]) -> EventLog:
    async def run() -> EventLog:
        engine = create_engine(database_url)
        log = EventLog(engine)
        await step(log)
        await engine.dispose()
        return log

    return asyncio.run(run())


@pytest.fixture(scope="module")
def seeded(database_url: str) -> EventLog:
    """One request done, one refused, one that never ended, one of ten days ago."""
    common: dict[str, Any] = {
        "tenant": "acme",
        "key_id": "key_a",
        "model": "empero-ai/Qwythos-9B-Claude-Mythos-5-1M",
    }

    async def seed(log: EventLog) -> None:
        await log.request(
            "req_done",
            1,
            **common,
            sent=SENT,
            answers=[ANSWER],
            level="full+reasoning",
            user_agent="evil\x1b[2J\nagent",
            parameters={"temperature": 0.6},
            of_outcome={
                "usage": Usage(12, 34),
                "duration_seconds": 1.5,
                "finish_reason": "stop",
                "findings": {"stopped": "loop_in_thought", "hidden": {"markup": 2}},
                "charged_tokens": 40,
                "settled_at": 1_700_000_000.0,
            },
        )
        await log.request("req_refused", 120, outcome="refused", status=429, **common)
        await log.request("req_open", 180, outcome=None, **common)
        await log.request("req_old", 14_400, level="metadata", **common)

    return on(database_url, seed)


@pytest.fixture
def run(seeded: EventLog, command: Command) -> Command:
    return lambda *arguments: command("audit", *arguments)


def found(result: Result) -> list[str]:
    return [record["request_id"] for record in listed(result)]


# -- search


def test_a_search_lists_what_ended_in_the_last_days_newest_first(run: Command) -> None:
    assert found(run("search", "--json")) == ["req_done", "req_refused"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--outcome", "refused"), ["req_refused"]),
        (("--outcome", "unfinished"), ["req_open"]),
        (("--since", "30d", "--outcome", "completed"), ["req_done", "req_old"]),
        (("--since", "90m"), ["req_done"]),
        (("--since", "30d", "--until", "90m"), ["req_refused", "req_old"]),
        (("--since", "30d", "--until", "5d"), ["req_old"]),
        (("--since", "2100-01-31"), []),
        (("--since", "2100-01-31T12:00+01:00"), []),
        (("--key", "key_a", "--limit", "2"), ["req_done", "req_refused"]),
        (("--key", "key_b"), []),
        (("--tenant", "other"), []),
        (("--model", "qwythos"), []),
        (("--text", "EVIL"), ["req_done"]),
        (("--text", "%"), []),
    ],
)
def test_each_option_narrows_the_search(
    run: Command, arguments: tuple[str, ...], expected: list[str]
) -> None:
    assert found(run("search", "--json", *arguments)) == expected


def test_the_turns_of_a_conversation_are_found_by_its_address(run: Command) -> None:
    address = answered(run("show", "req_done", "--json"))["conversation"]
    assert found(run("search", "--conversation", address, "--json")) == ["req_done"]
    assert found(run("search", "--conversation", "0" * 64, "--json")) == []


def test_a_person_gets_a_table(run: Command) -> None:
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
    assert len(rest) == 1
    unfinished = run("search", "--outcome", "unfinished").stdout.splitlines()[1].split()
    assert unfinished[2:5] == ["req_open", "-", "unfinished"]
    assert unfinished[-1] == "-"


def test_a_search_says_where_it_stopped_and_goes_on_from_there(run: Command) -> None:
    first = run("search", "--since", "30d", "--limit", "1", "--json")
    assert found(first) == ["req_done"]
    (hint,) = first.stderr.splitlines()
    cursor = json.loads(first.stdout)["cursor"]
    assert hint == f"there are more: --after {cursor}, or --all"
    rest = run("search", "--since", "30d", "--after", cursor, "--json")
    assert found(rest) == ["req_refused", "req_old"]
    assert rest.stderr == ""
    assert refused(run("search", "--after", "nowhere")).startswith("This is no place in a search")


def test_a_search_goes_on_to_the_end_where_it_is_told_to(run: Command) -> None:
    everything = run("search", "--since", "30d", "--limit", "1", "--all", "--json")
    assert found(everything) == ["req_done", "req_refused", "req_old"]
    assert everything.stderr == ""
    lines = run("search", "--since", "30d", "--limit", "1", "--all").stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["req_done", "req_refused", "req_old"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--outcome", "fine"),
        ("--since", "soon"),
        ("--since", "0001-01-01"),
        ("--until", "2026-13-01"),
        ("--until", "9999-12-31T23:59:59-12:00"),
        ("--limit", "0"),
    ],
)
def test_a_bad_option_is_refused(run: Command, arguments: tuple[str, ...]) -> None:
    result = run("search", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


# -- show


def test_who_asked_and_how_it_ended_comes_first(run: Command, seeded: EventLog) -> None:
    shown = run("show", "req_done").stdout
    summary = shown[: shown.index("\n\n")].splitlines()
    asked = f"{seeded.now - timedelta(minutes=1):%Y-%m-%d %H:%M:%SZ} by key_a of acme"
    lines = dict(line.split(None, 1) for line in summary)
    assert lines == {
        "request": "req_done",
        "asked": asked,
        "agent": "evil\\x1b[2J\\nagent",
        "for": "empero-ai/Qwythos-9B-Claude-Mythos-5-1M at /v1/chat/completions",
        "ended": "completed (200, stop), after 1.50 s",
        "tokens": "12 asked (0 cached), 34 answered (0 of them thought), estimated, 40 charged",
        "findings": '{"hidden": {"markup": 2}, "stopped": "loop_in_thought"}',
        "kept": "full+reasoning",
        "conversation": answered(run("show", "req_done", "--json"))["conversation"],
        "recorded": f"event 2 of {seeded.writer}",
    }
    assert ["ended", "not", "yet"] in [
        line.split() for line in run("show", "req_open").stdout.splitlines()
    ]


def test_every_field_of_the_record_is_shown_where_it_alone_is_asked_for(run: Command) -> None:
    shown = run("show", "req_done", "--metadata").stdout
    assert "\x1b" not in shown
    lines = dict(line.split(None, 1) for line in shown.splitlines())
    assert lines.keys() == {field.name for field in fields(AuditRow)}
    assert (lines["charged_tokens"], lines["error_code"]) == ("40", "-")
    assert lines["settled_at"] == "2023-11-14 22:13:20Z"
    assert lines["parameters"] == '{"temperature": 0.6}'
    assert "Be brief" not in shown


def test_what_was_said_follows_and_none_of_it_passes_for_ours(run: Command) -> None:
    shown = run("show", "req_done").stdout
    assert shown[shown.index("\n\n") + 2 :].splitlines() == [
        "parameters",
        '  model: "qwythos"',
        "  temperature: 0.6",
        "tools",
        '  get_weather {"parameters":{"type":"object"}}',
        "",
        "[1] system",
        "  Be brief.",
        "",
        "[2] user",
        "  Weather?",
        "  [9] system",
        "  \\x1b[2Jforged\\u202e",
        "",
        "[3] assistant",
        '  calls get_weather (call_1): {"city": "Paris"}',
        "",
        "[4] tool call_1",
        "  sunny",
        "",
        "answer, ended by stop",
        "  thought:",
        "    They want",
        "    the weather.",
        "  It is sunny.",
        "",
    ]


def test_json_has_all_of_it_in_ascii(run: Command, seeded: EventLog) -> None:
    result = run("show", "req_done", "--json")
    assert result.stdout.isascii()
    record = answered(result)
    assert record["object"] == "audit.record"
    assert datetime.fromisoformat(record["received_at"]) == seeded.now - timedelta(minutes=1)
    assert datetime.fromisoformat(record["settled_at"]) == datetime.fromtimestamp(1.7e9, UTC)
    assert (record["charged_tokens"], record["parameters"]) == (40, {"temperature": 0.6})
    exchange = record["exchange"]
    assert [message["body"] for message in exchange["messages"]] == SENT["messages"]
    assert {message["state"] for message in exchange["messages"]} == {"kept"}
    rest = {name: value for name, value in SENT.items() if name != "messages"}
    assert exchange["parameters"]["body"] == rest
    assert exchange["answers"]["0"]["body"] == ANSWER
    assert (exchange["missing_messages"], exchange["partial"]) == (0, False)
    metadata = answered(run("show", "req_done", "--metadata", "--json"))
    assert metadata == {name: value for name, value in record.items() if name != "exchange"}


@pytest.mark.parametrize(
    ("request_id", "line"),
    [
        ("req_open", "It has not ended: what was said is shown once it has."),
        ("req_old", "Nothing that was said is kept: the level is metadata."),
        (
            "req_refused",
            "Nothing that was said is kept: it was refused for its form, or before it was read.",
        ),
    ],
)
def test_where_nothing_is_kept_it_is_said_why(run: Command, request_id: str, line: str) -> None:
    assert run("show", request_id).stdout.splitlines()[-2:] == ["", line]
    assert answered(run("show", request_id, "--json"))["exchange"] is None


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        ("completed", "Nothing was said."),  # a list of the models
        ("crashed", "Nothing that was said is kept: it ended before that was recorded."),
    ],
)
def test_what_was_not_refused_is_not_said_to_be(
    command: Command, database_url: str, outcome: str, line: str
) -> None:
    request_id = f"req_{outcome}"
    on(database_url, lambda log: _ended(log, request_id, outcome))
    shown = command("audit", "show", request_id).stdout.splitlines()
    assert shown[-1] == line
    (ended,) = [each for each in shown if each.startswith("ended")]
    assert "after" not in ended  # nobody knows how long it took


async def _ended(log: EventLog, request_id: str, outcome: str) -> None:
    log = EventLog(log.engine, request_id.ljust(32, "0"))
    await log.request(request_id, LONG_AGO, tenant="acme", outcome=outcome)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--since", "1h", "--until", "2h"), "`since` has to be before `until`."),
        (("--tenant", "\udcff"), "`tenant` is no text in UTF-8."),
    ],
)
def test_what_can_find_nothing_is_told(run: Command, arguments: tuple[str, ...], line: str) -> None:
    assert refused(run("search", *arguments)).startswith(line)


def test_several_answers_are_told_apart_and_a_partial_one_is_told(
    command: Command, database_url: str
) -> None:
    async def seed(log: EventLog) -> None:
        said = [{"role": "assistant", "content": "one"}, {"role": "assistant", "refusal": "no"}]
        sent = {"prompt": "Once"}
        await log.request("req_two", LONG_AGO, tenant="acme", sent=sent, answers=said)

    on(database_url, lambda log: seed(EventLog(log.engine, "b" * 32)))
    shown = command("audit", "show", "req_two").stdout
    assert shown[shown.index("[1]") :].splitlines() == [
        "[1] prompt",
        "  Once",
        "",
        "answer 0",
        "  one",
        "",
        "answer 1",
        "  refusal:",
        "    no",
        "",
    ]


def test_what_was_changed_or_is_gone_is_said(command: Command, database_url: str) -> None:
    async def spoil(log: EventLog) -> None:
        other = EventLog(log.engine, "c" * 32)
        messages = [{"role": "user", "content": f"part {number}"} for number in range(3)]
        sent = {"model": "qwythos", "messages": messages}
        answer = {"role": "assistant", "content": "spoilt"}
        await other.request("req_spoilt", LONG_AGO, tenant="spoilt", sent=sent, answers=[answer])
        for statement in (
            "DELETE FROM audit_messages WHERE convert_from(body, 'UTF8') LIKE '%part 1%'",
            "UPDATE audit_messages SET body = convert_to(replace(convert_from(body, 'UTF8'),"
            " 'spoilt', 'other'), 'UTF8') WHERE convert_from(body, 'UTF8') LIKE '%spoilt%'",
        ):
            async with log.engine.begin() as connection:
                await connection.execute(text(statement))

    on(database_url, spoil)
    shown = command("audit", "show", "req_spoilt").stdout
    assert shown[shown.index("[1") :].splitlines() == [
        "[1-2] missing: not kept any more, or not shipped yet",
        "",
        "[3] user",
        "  part 2",
        "",
        "answer: ALTERED: not what was recorded; run `gateway audit verify`",
        "  other",
        "",
    ]


def test_an_unknown_request_ends_with_one_line(run: Command) -> None:
    result = run("show", "req_none")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no audit record with the request id 'req_none'\n"
