"""When an answer has begun does not depend on how its bytes were cut."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.opening import MAX_OPENING_BYTES, Opening
from tests.properties.cutting import cut, cuts

SILENT = [
    b": keep-alive\n\n",
    b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {"role": "assistant"}}], "usage": {}}\n\n',
    b'data: {"choices": [], "prompt_progress": {"total": 9000, "processed": 512}}\n\n',
    b"event: ping\r\n\r\n",
]
SAID = [
    b'data: {"choices": [{"index": 0, "delta": {"content": " "}}]}\n\n',
    b'data: {"choices": [{"index": 1, "delta": {"reasoning_content": "Hm"}}]}\r\n\r\n',
    b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {}}]}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b'data: {"error": {"message": "no"}}\n\n',
    b"data: [DONE]\n\n",
    b"data: no JSON\n\n",
]


def has_begun(pieces: Iterable[bytes]) -> bool:
    opening = Opening()
    return any(opening.feed(piece) for piece in pieces) or opening.close()


@given(st.lists(st.sampled_from(SILENT)), cuts)
def test_what_engines_send_while_they_read_is_no_beginning(
    said: list[bytes], at: list[int]
) -> None:
    assert not has_begun(cut(b"".join(said), at))


@given(st.lists(st.sampled_from(SILENT)), st.sampled_from(SAID), cuts)
def test_an_answer_begins_with_what_is_of_it(
    before: list[bytes], said: bytes, at: list[int]
) -> None:
    assert has_begun(cut(b"".join(before) + said, at))
    assert has_begun(cut(b"".join(before) + said.rstrip(), at))


@pytest.mark.parametrize("piece", [SILENT[0], SILENT[3], b"data: no end "])
def test_no_more_than_its_bound_is_waited_for(piece: bytes) -> None:
    times = MAX_OPENING_BYTES // len(piece)
    assert not has_begun([SILENT[0]])
    opening = Opening()
    assert not any(opening.feed(piece) for _ in range(times))
    assert any(opening.feed(piece) for _ in range(2))
