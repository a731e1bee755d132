"""Numbers that a client sends in headers: one, or none."""

import pytest
from starlette.datastructures import Headers

from app.api.request_headers import MAX_COLD_PREFILL, max_cold_prefill_tokens
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
