from collections.abc import Callable

import orjson
import pytest

from bench.answers import DONE, fault_of, thorough_fault_of
from bench.scenarios import STREAM, THOUGHT, UNARY, WORD, Scenario
from bench.wire import answer_writes
from tests.unit.bench.test_wire import Body

Check = Callable[..., str | None]


def relayed(scenario: Scenario) -> bytes:
    return Body(b"".join(answer_writes(scenario))).data


def folded(text: str = WORD * UNARY.answer_pieces, reason: str = "stop", thought: int = 3) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {"completion_tokens_details": {"reasoning_tokens": thought}}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return orjson.dumps({"choices": [choice], "usage": usage})


@pytest.mark.parametrize("check", [fault_of, thorough_fault_of])
class TestBothChecks:
    def test_a_relayed_answer_is_right(self, check: Check) -> None:
        assert check(UNARY, 200, relayed(UNARY), gateway=False) is None
        assert check(STREAM, 200, relayed(STREAM), gateway=False) is None

    def test_a_folded_answer_is_right(self, check: Check) -> None:
        assert check(UNARY, 200, folded(), gateway=True) is None

    def test_an_answer_with_the_thought_in_it_is_wrong(self, check: Check) -> None:
        body = folded(THOUGHT + WORD * UNARY.answer_pieces)
        assert "thought" in check(UNARY, 200, body, gateway=True)

    def test_an_answer_that_lacks_a_word_is_wrong(self, check: Check) -> None:
        body = folded(WORD * (UNARY.answer_pieces - 1))
        assert "not whole" in check(UNARY, 200, body, gateway=True)

    def test_a_stream_without_its_end_is_wrong(self, check: Check) -> None:
        body = relayed(STREAM).removesuffix(DONE)
        assert "[DONE]" in check(STREAM, 200, body, gateway=False)

    def test_an_error_is_wrong_and_told(self, check: Check) -> None:
        assert "status 503: busy" in check(UNARY, 503, b"busy", gateway=True)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (folded(reason="length"), "finish reason"),
        (folded(thought=0), "0 tokens of thought"),
        (folded("then " + WORD * UNARY.answer_pieces), "text is"),
        ((WORD * UNARY.answer_pieces).encode(), "cannot be read"),
    ],
)
def test_the_thorough_check_reads_all_of_it(body: bytes, told: str) -> None:
    assert told in (thorough_fault_of(UNARY, 200, body, gateway=True) or "")
