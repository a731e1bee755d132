"""docs/logs.md lists what the code logs, and no call is given what is named for a text or key."""

import ast
import inspect
import re
from collections import defaultdict
from pathlib import Path

from app.telemetry.logs import log_request
from tests.unit.telemetry.log_calls import WITHOUT_LITERALS, log_calls, other_loggers

CATALOGUE = Path(__file__).parents[3] / "docs" / "logs.md"
ROW = re.compile(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \| \S.* \|$", re.MULTILINE)

CALLS = [call for call in log_calls() if not call.where.startswith(f"app/{WITHOUT_LITERALS}")]
# Of what is made in other ways: the request's line, Python's last words, and the bound on floods.
MADE_ELSEWHERE = {
    "request": {
        *inspect.signature(log_request).parameters,
        *("queue_ms", "ttft_ms", "overhead_ms", "duration_ms", "sample_ratio"),
        *("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"),
    }
    - {"usage", "queue_seconds", "time_to_first_token_seconds", "overhead_seconds"}
    - {"duration_seconds"},
    "process_crashed": {"exception"},
    "thread_crashed": {"thread", "exception"},
    "lines_dropped": {"of", "worker", "logger", "lines", "within_seconds"},
}
# Of `**fields`: what they hold is in a dictionary beside the call.
SPLATS = {"audit_read": {"by", "client_ip"}}

# A field of such a name would carry what a line may not hold, or tempt somebody to let it.
FORBIDDEN = re.compile(
    r"(^|_)(prompt|text|content|messages?|body|headers?|authorization|secret|password|pepper|token|"
    r"key|arguments|answer|thought|url|dsn)$"
)

# The value of a field may not be made of one of these.
SECRET_VALUE = re.compile(
    r"get_secret_value|\b(pepper|secret|api_key|authorization|password|token)\b"
)


def documented() -> dict[str, set[str]]:
    rows = ROW.findall(CATALOGUE.read_text("utf-8"))
    assert len(rows) == len({event for event, _ in rows}), "an event stands there twice"
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def logged() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for call in CALLS:
        if call.event is not None:
            named = {"exception" if name == "exc_info" else name for name in call.fields}
            found[call.event] |= named | SPLATS.get(call.event, set())
    for event in ("request_crashed", "limits_task_failed"):  # log.exception
        found[event].add("exception")
    for event, fields in MADE_ELSEWHERE.items():
        found[event] |= fields
    return dict(found)


def test_every_event_that_the_code_logs_is_documented_with_its_fields_and_no_other_is() -> None:
    assert logged() == documented()


def test_every_event_is_a_word_that_stands_in_the_code() -> None:
    assert [call.where for call in CALLS if call.event is None] == []
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", call.event or "") for call in CALLS)


def test_only_the_known_calls_give_fields_that_do_not_stand_beside_them() -> None:
    assert {call.event for call in CALLS if call.splat} == set(SPLATS)


def test_no_field_is_named_for_a_text_or_a_secret() -> None:
    assert [(c.where, name) for c in CALLS for name in c.fields if FORBIDDEN.search(name)] == []


def test_no_field_is_given_the_value_of_a_secret() -> None:
    given = [
        (call.where, name, ast.unparse(value))
        for call in CALLS
        for name, value in call.fields.items()
    ]
    assert [each for each in given if SECRET_VALUE.search(each[2])] == []


def test_there_is_one_way_to_log() -> None:
    """Another logger, or a print, would pass by the catalogue."""
    assert list(other_loggers()) == []
