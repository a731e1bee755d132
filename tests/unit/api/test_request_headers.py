"""What a client sends in headers: a number, or the name of its conversation."""

import pytest
from starlette.datastructures import Headers

from app.api.request_headers import (
    MAX_COLD_PREFILL,
    affinity_hint,
    max_cold_prefill_tokens,
    read_timeout_seconds,
    wants_progress,
)
from app.errors import InvalidRequest


def headers(*values: str) -> Headers:
    name = MAX_COLD_PREFILL.encode()
    return Headers(raw=[(name, value.encode("latin-1")) for value in values])


@pytest.mark.parametrize(
    ("values", "tokens"),
    [((), None), (("1",), 1), (("250000",), 250_000), ((" 7\t",), 7), (("1000000000000",), 10**12)],
)
def test_a_positive_integer_is_taken(values: tuple[str, ...], tokens: int | None) -> None:
    assert max_cold_prefill_tokens(headers(*values)) == tokens


@pytest.mark.parametrize(
    "values",
    [
        ("",), ("0",), ("007",), ("-1",), ("+5",), ("1.5",), ("1e3",), ("1_000",), ("5, 6",),
        ("many",), ("0x10",), ("\xb2",), ("1000000000001",), ("9" * 5_000,), ("5", "5"), ("5", "6"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_the_headers_name(values: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        max_cold_prefill_tokens(headers(*values))
    assert caught.value.param == MAX_COLD_PREFILL
    assert MAX_COLD_PREFILL in caught.value.message


# -- which conversation it is


@pytest.mark.parametrize(
    ("sent", "prompt_cache_key", "hint"),
    [
        ({}, None, None),
        ({"x-gateway-affinity": "a"}, None, "a"),
        ({}, "key", "key"),
        ({"x-gateway-affinity": "a", "thread-id": "t"}, "key", "a"),
        ({"x-claude-code-session-id": "c", "session_id": "s"}, "key", "key"),
        ({"x-claude-code-session-id": "c", "session_id": "s"}, None, "c"),
        ({"session_id": "s", "session-id": "-"}, None, "s"),
        ({"session-id": "s", "thread-id": "t"}, None, "s"),
        ({"Thread-Id": "t"}, None, "t"),
        ({"x-gateway-affinity": "", "thread-id": "t"}, "", "t"),
    ],
)
def test_the_best_hint_counts(
    sent: dict[str, str], prompt_cache_key: str | None, hint: str | None
) -> None:
    assert affinity_hint(Headers(sent), prompt_cache_key) == hint


# -- how long it waits, and whether it wants to know how it stands


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ({}, None),
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "600.0"}, 600.0),
        ({"x-stainless-read-timeout": " 30.5 "}, 30.5),
        ({"x-stainless-read-timeout": "0.25"}, 0.25),
        ({"X-Stainless-Timeout": "20"}, 20.0),
        ({"x-stainless-timeout": "20", "x-stainless-read-timeout": "600"}, 20.0),
        ({"x-stainless-timeout": "soon", "x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "0"}, None),
        ({"x-stainless-read-timeout": "-1"}, None),
        ({"x-stainless-read-timeout": "1e5"}, None),
        ({"x-stainless-read-timeout": "nan"}, None),
        ({"x-stainless-read-timeout": "inf"}, None),
        ({"x-stainless-read-timeout": "None"}, None),
        ({"x-stainless-read-timeout": "\u0661"}, None),
        ({"x-stainless-read-timeout": "9" * 400}, None),
    ],
)
def test_a_timeout_that_is_a_number_counts(sent: dict[str, str], seconds: float | None) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    assert read_timeout_seconds(Headers(raw=raw)) == seconds


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("True", True), ("false", False), ("1", False)]
)
def test_progress_is_told_to_who_says_true(value: str, wanted: bool) -> None:
    assert wants_progress(Headers({"x-gateway-progress": value})) is wanted
    assert not wants_progress(Headers({}))
