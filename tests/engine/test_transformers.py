"""`transformers serve` with the tiny model: what a client gets of it is what it gets of vLLM."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.engine.conftest import ENGINE_READY_SECONDS, ENGINE_SCRIPT, start_gateway
from tests.engine.conversation import (
    CAPITAL,
    CAPITAL_ANSWER,
    MODEL,
    RIVER,
    RIVER_END,
    assert_no_thought,
    reasoning_tokens,
    user,
)
from tests.engine.processes import free_port, started, wait_for_200


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """As one entry of the gateway's list of workers."""
    prepare = [sys.executable, str(ENGINE_SCRIPT), "prepare"]
    model = subprocess.run(prepare, check=True, capture_output=True, text=True).stdout.strip()
    port = free_port()
    command = [sys.executable, str(ENGINE_SCRIPT), "transformers", "--die-with-parent"]
    log = tmp_path_factory.mktemp("transformers") / "transformers.log"
    with started([*command, "--port", str(port)], log, {}) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_200(process, f"{url}/health", log, ENGINE_READY_SECONDS)
        yield {"url": url, "engine": "transformers", "model": model}


@pytest.fixture(scope="module")
def sdk(
    transformers: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenAI]:
    with (
        start_gateway(transformers, tmp_path_factory.mktemp("gateway")) as gateway,
        gateway.client() as client,
    ):
        yield client


def test_an_answer_is_right_and_holds_no_thought(sdk: OpenAI) -> None:
    answer = sdk.chat.completions.create(model=MODEL, messages=[user(CAPITAL)])

    assert_no_thought(answer)
    (choice,) = answer.choices
    assert (choice.message.content or "").strip() == CAPITAL_ANSWER
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert 0 < reasoning_tokens(answer.usage) < answer.usage.completion_tokens


def test_a_stream_is_right_and_holds_no_thought(sdk: OpenAI) -> None:
    with sdk.chat.completions.create(model=MODEL, messages=[user(RIVER)], stream=True) as stream:
        chunks = list(stream)

    assert_no_thought(*chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip().startswith("A river begins as a spring")
    assert text.strip().endswith(RIVER_END)
    finishes = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert finishes == ["stop"]
