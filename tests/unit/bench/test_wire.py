import httptools
import orjson
import pytest

from bench.scenarios import (
    LARGE,
    MIB,
    SCENARIOS,
    THOUGHT,
    WORD,
    Scenario,
    request_body,
    scenario_of,
)
from bench.wire import answer_writes


class Body:
    """Takes an HTTP answer apart."""

    def __init__(self, data: bytes) -> None:
        self.data = b""
        self.complete = False
        httptools.HttpResponseParser(self).feed_data(data)

    def on_body(self, data: bytes) -> None:
        self.data += data

    def on_message_complete(self) -> None:
        self.complete = True


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_an_answer_is_whole_events_in_the_engines_order(scenario: Scenario) -> None:
    body = Body(b"".join(answer_writes(scenario)))
    *events, done, rest = body.data.split(b"\n\n")
    chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert body.complete
    assert (done, rest) == (b"data: [DONE]", b"")
    assert deltas == [
        {"role": "assistant", "content": ""},
        *[{"reasoning": THOUGHT}] * scenario.thought_pieces,
        *[{"content": WORD}] * scenario.answer_pieces,
        {"content": ""},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens_details"] == {
        "reasoning_tokens": scenario.thought_pieces
    }


@pytest.mark.parametrize(
    "scenario", [each for each in SCENARIOS.values() if each.by_event], ids=lambda each: each.name
)
def test_each_event_is_a_write_of_its_own_and_usage_comes_with_the_last(scenario: Scenario) -> None:
    writes = answer_writes(scenario)
    assert len(writes) == scenario.events
    assert b'"usage"' in writes[-1]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_worker_knows_the_scenario_by_the_prompt(scenario: Scenario) -> None:
    body = orjson.loads(request_body(scenario))
    rebuilt = orjson.dumps({"temperature": 0.6, "messages": body["messages"], "model": "other"})
    assert scenario_of(rebuilt[:1024]) is scenario


def test_a_prompt_without_a_scenario_has_none() -> None:
    assert scenario_of(b'{"messages":[]}') is None
    assert scenario_of(b"bench scenario nobody.") is None


def test_the_large_body_has_four_mebibytes_of_text() -> None:
    text = orjson.loads(request_body(LARGE))["messages"][-1]["content"]
    assert 4 * MIB - 2 <= len(text) <= 4 * MIB + 100
