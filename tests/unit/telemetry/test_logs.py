import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from app.known_secrets import KNOWN
from app.protocol.events import Usage
from app.telemetry.log_bounds import FIRST_REQUESTS, LINES_OF_A_KIND
from app.telemetry.logs import configure_logging, log_request


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    hooks = sys.excepthook, threading.excepthook
    access_disabled = logging.getLogger("uvicorn.access").disabled
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks
    logging.getLogger("uvicorn.access").disabled = access_disabled
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Output(io.BytesIO):
    @property
    def text(self) -> str:
        return self.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().split(b"\n")[:-1]]


@pytest.fixture
def output() -> Output:
    stream = Output()
    configure_logging("info", stream=stream)
    return stream


@pytest.fixture
def console() -> Output:
    stream = Output()
    configure_logging("info", console=True, stream=stream)
    return stream


def request(**fields: Any) -> None:
    log_request(
        **{
            "request_id": "req_1",
            "method": "POST",
            "route": "/v1/chat/completions",
            "status": 200,
            "outcome": "completed",
            "duration_seconds": 1.23456,
            **fields,
        }
    )


def test_a_request_is_one_line_with_all_that_is_known(output: Output) -> None:
    request(
        model="qwythos",
        stream=True,
        tenant="acme",
        key_id="key_1",
        worker="http://worker:8000",
        attempts=2,
        usage=Usage(10, 20, 5, 3, exact=True),
        finish_reason="stop",
        time_to_first_token_seconds=0.5,
        overhead_seconds=0.0015,
        client_retry_count="1",
        user_agent="OpenAI/Python 3.54.0",
    )
    (line,) = output.lines()
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "req_1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "outcome": "completed",
        "model": "qwythos",
        "stream": True,
        "tenant": "acme",
        "key_id": "key_1",
        "worker": "http://worker:8000",
        "attempts": 2,
        "finish_reason": "stop",
        "ttft_ms": 500.0,
        "overhead_ms": 1.5,
        "duration_ms": 1234.6,
        "client_retry_count": 1,
        "user_agent": "OpenAI/Python 3.54.0",
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "reasoning_tokens": 5,
        "cached_tokens": 3,
    }


def test_times_are_utc_with_milliseconds(output: Output) -> None:
    request()
    timestamp = output.lines()[0]["timestamp"]
    assert len(timestamp) == len("2026-01-01T00:00:00.000Z")
    assert timestamp.endswith("Z")


def test_what_is_not_known_is_left_out(output: Output) -> None:
    request(status=401, outcome="refused", error_code="invalid_api_key")
    (line,) = output.lines()
    assert line["error_code"] == "invalid_api_key"
    assert "model" not in line
    assert "prompt_tokens" not in line


def test_a_failure_of_ours_is_a_warning(output: Output) -> None:
    request(status=502, outcome="failed")
    assert output.lines()[0]["level"] == "warning"


HOSTILE = "a\r\nb\x1b[2J\x7f\x9b31m\x85\u2028\u202egnp.exe\u2066\x00"


def test_no_text_of_a_client_can_break_a_line_or_reach_a_terminal(output: Output) -> None:
    request(user_agent=HOSTILE, model="m\u202e\u2028")
    raw = output.text
    assert raw.count("\n") == 1
    assert all(character.isprintable() for character in raw[:-1])
    (line,) = output.lines()
    assert line["user_agent"] == HOSTILE


def test_readable_text_of_other_scripts_stays_readable(output: Output) -> None:
    request(user_agent="Prüfung 测试\u202e")
    assert "Prüfung 测试\\u202e" in output.text


def test_what_a_client_says_of_itself_is_cut(output: Output) -> None:
    request(user_agent="x" * 10_000, model="y" * 10_000)
    (line,) = output.lines()
    assert line["user_agent"] == "x" * 128
    assert line["model"] == "y" * 128


@pytest.mark.parametrize("claimed", ["-1", "1e3", "9" * 5000, "\u0663", "", "1\n"])
def test_a_retry_count_that_is_none_is_left_out(output: Output, claimed: str) -> None:
    request(client_retry_count=claimed)
    assert "client_retry_count" not in output.lines()[0]


@pytest.mark.parametrize("value", ["lone \ud800", 2**80, object(), {1: 2}, b"\xff", float("nan")])
def test_no_value_makes_a_log_call_fail(output: Output, value: object) -> None:
    structlog.get_logger().info("odd", value=value)
    assert [line["event"] for line in output.lines()] == ["odd"]


def test_a_closed_pipe_loses_the_line_and_nothing_else() -> None:
    stream = Output()
    configure_logging("info", stream=stream)
    stream.close()
    request()


def test_lines_below_the_level_are_not_written() -> None:
    stream = Output()
    configure_logging("warning", stream=stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in stream.lines()] == ["loud"]


def test_an_exception_is_told_by_its_place_and_not_in_its_words(output: Output) -> None:
    prompt = "what was asked \x1b[2J"
    try:
        raise ValueError(prompt)
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = output.lines()
    assert (line["level"], line["event"]) == ("error", "failed")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("raise ValueError(prompt)\nValueError")
    assert "asked" not in output.text


def test_the_standard_library_speaks_in_the_same_form(output: Output) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 42)
    logging.getLogger("sqlalchemy.pool").warning("a %s of 100%%", "pool")
    (server, pool) = output.lines()
    assert server["event"] == "Started server process [42]"
    assert server["logger"] == "uvicorn.error"
    assert (pool["event"], pool["level"]) == ("a pool of 100%", "warning")


def test_a_lost_task_of_asyncio_is_reported_with_its_traceback(output: Output) -> None:
    loop = asyncio.new_event_loop()
    lost = loop.create_future()
    lost.set_exception(ValueError("why"))
    context = {"message": "lost", "exception": lost.exception(), "future": lost}
    loop.call_exception_handler(context)
    loop.close()
    (line,) = output.lines()
    assert (line["logger"], line["event"]) == ("asyncio", "lost")
    assert line["exception"] == "ValueError"
    assert "why" not in output.text


def test_libraries_never_show_their_statements_parameters() -> None:
    stream = Output()
    configure_logging("debug", stream=stream)
    logging.getLogger("sqlalchemy.engine").info("[generated in 0.1s] ('a secret',)")
    assert stream.lines() == []


def test_uvicorns_access_log_is_off(output: Output) -> None:
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert output.lines() == []


@pytest.mark.parametrize("number", [25, 1000, 35])
def test_a_level_of_a_librarys_own_is_rounded_down(output: Output, number: int) -> None:
    logging.getLogger("uvicorn.error").log(number, "odd level")
    assert output.lines()[0]["level"] in ("info", "warning", "critical")


def test_a_record_whose_arguments_do_not_fit_is_still_written(output: Output) -> None:
    logging.root.handlers[1:] = []  # pytest's own refuse it
    logging.getLogger("uvicorn.error").warning("a %d", "word")
    assert output.lines()[0]["event"] == "a %d"


def test_the_console_form_has_no_colours_off_a_terminal(console: Output) -> None:
    request(model="qwythos")
    assert "request" in console.text
    assert "model=qwythos" in console.text
    assert "\x1b" not in console.text


def test_the_console_form_escapes_what_a_terminal_obeys(console: Output) -> None:
    request(user_agent=HOSTILE + "\ud800")
    assert console.text.count("\n") == 1
    assert all(character.isprintable() for character in console.text[:-1])
    assert "\\u001b[2J" in console.text


def test_the_console_form_keeps_a_traceback_readable_and_free_of_locals(console: Output) -> None:
    secret = "the-" + "prompt"
    try:
        raise ValueError("why \x1b[2J")
    except ValueError:
        structlog.get_logger().exception("failed", length=len(secret))
    assert "Traceback (most recent call last):\n" in console.text
    assert "\x1b" not in console.text
    assert "the-prompt" not in console.text


def test_the_last_words_of_a_process_and_of_a_thread_are_told_as_any_failure(
    output: Output,
) -> None:
    prompt, answer = "what was asked", "what was said"
    try:
        raise ValueError(prompt)
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)

    def fail() -> None:
        raise KeyError(answer)

    thread = threading.Thread(target=fail, name="of-the-test")
    thread.start()
    thread.join()
    ended, died = output.lines()
    assert (ended["level"], ended["event"]) == ("critical", "process_crashed")
    assert (died["event"], died["thread"]) == ("thread_crashed", "of-the-test")
    assert died["exception"].endswith("KeyError")
    assert prompt not in output.text
    assert answer not in output.text


def test_a_secret_is_never_written_by_type_by_value_nor_by_form(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KNOWN, "texts", ())
    monkeypatch.setattr(KNOWN, "_bytes", ())
    KNOWN.add("a-token-of-this-process")
    structlog.get_logger().warning(
        "odd",
        by_type=SecretStr("s3cret-by-type"),
        by_value="it was a-token-of-this-process",
        by_form="postgresql://u:s3cret-by-form@db/x",
    )
    (line,) = output.lines()
    assert line["by_type"] == "<SecretStr>"
    assert line["by_value"] == "it was ***"
    assert line["by_form"] == "postgresql://***@db/x"


def test_a_user_agent_is_masked_before_it_is_cut(output: Output) -> None:
    request(user_agent="x" * 120 + " sk-qw-0123456789abcdefghij")
    (line,) = output.lines()
    assert line["user_agent"] == "x" * 120 + " sk-***"


def test_a_sampled_log_says_which_share_it_has() -> None:
    stream = Output()
    configure_logging("info", stream=stream, sample_ratio=0.5)
    for number in range(FIRST_REQUESTS + 400):
        request(request_id=f"req_{number:032x}")
    sampled = stream.lines()[FIRST_REQUESTS:]
    assert 100 < len(sampled) < 300
    assert {line["sample_ratio"] for line in sampled} == {0.5}


def test_a_flood_of_one_kind_is_summed_up_in_the_log() -> None:
    stream = Output()
    configure_logging("info", stream=stream)
    for _ in range(LINES_OF_A_KIND + 30):
        structlog.get_logger().warning("worker_failed", worker="w")
    assert len(stream.lines()) == LINES_OF_A_KIND
