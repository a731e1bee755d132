"""A client that goes away: vLLM has to stop, and the audit log has to know."""

import json
import uuid
from collections.abc import Callable
from http.client import HTTPConnection

import pytest
from openai import OpenAI

from tests.engine.conftest import Engine, RunningGateway
from tests.engine.conversation import CAPITAL, MODEL, WAVES, user
from tests.engine.processes import wait_until
from tests.engine.prompts import long_prompt

# vLLM aborts between two steps, and a step of 4,096 tokens deep in a long prompt takes some
# seconds on a slow processor.
ABORT_SECONDS = 120
START_SECONDS = 120  # until vLLM has read the tokens of a long prompt and begins
AUDIT_SECONDS = 120  # each look starts a command
PREFILL_TOKENS = 100_000  # 9 s on a fast processor


@pytest.fixture
def assert_abandoned(engine: Engine) -> Callable[[], None]:
    """Asserts that vLLM has given up what it was doing, and not finished it."""
    wait_until(lambda: engine.running_requests() == 0, ABORT_SECONDS, "vLLM is idle")
    finished = engine.finished_requests()

    def check() -> None:
        wait_until(lambda: engine.running_requests() == 0, ABORT_SECONDS, "vLLM stopped")
        assert engine.finished_requests() == finished

    return check


@pytest.fixture
def request_id() -> str:
    """The client's own name for its request, which the audit log keeps."""
    return f"client-{uuid.uuid4()}"


def test_leaving_in_mid_stream_stops_the_engine(
    client: OpenAI,
    gateway: RunningGateway,
    request_id: str,
    assert_abandoned: Callable[[], None],
) -> None:
    with client.chat.completions.create(
        model=MODEL,
        messages=[user(WAVES)],
        stream=True,
        extra_headers={"x-request-id": request_id},
    ) as stream:
        next(chunk for chunk in stream if chunk.choices[0].delta.content)

    assert_abandoned()
    record = gateway.cancelled(request_id, AUDIT_SECONDS)
    assert record["prompt_tokens"] > 0
    assert record["completion_tokens"] > 0
    assert record["time_to_first_token_seconds"] > 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "answer"])
def test_leaving_in_prefill_stops_the_engine(
    engine: Engine,
    gateway: RunningGateway,
    request_id: str,
    assert_abandoned: Callable[[], None],
    stream: bool,
) -> None:
    prompt = long_prompt(f"Badger {stream}", PREFILL_TOKENS, engine) + CAPITAL
    body = {"model": MODEL, "messages": [user(prompt)], "stream": stream}
    headers = {
        "authorization": f"Bearer {gateway.key}",
        "content-type": "application/json",
        "x-request-id": request_id,
    }
    connection = HTTPConnection("127.0.0.1", gateway.port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    wait_until(lambda: engine.running_requests() == 1, START_SECONDS, "vLLM reads the prompt")
    connection.close()

    assert_abandoned()
    record = gateway.cancelled(request_id, AUDIT_SECONDS)
    assert record["prompt_tokens"] > 0
    assert record["completion_tokens"] == 0
    assert record["time_to_first_token_seconds"] is None
