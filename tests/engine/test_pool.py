"""Two replicas of the gateway and two workers: a conversation stays where its prompt was read,
whichever replica is asked."""

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.deploy.launch_files import launch_file
from tests.engine.conftest import (
    LONG_POOL,
    TELL_SECONDS,
    Engine,
    RunningGateway,
    start_gateway,
)
from tests.engine.conversation import CAPITAL, LIKELIEST, MODEL, user
from tests.engine.prompts import long_prompt

PROMPT_TOKENS = 60_000
# Warm-ups, checks of a new worker, and probes: each a few tokens.
PROBE_TOKENS = 1_000


@pytest.fixture(scope="module")
def replicas(
    engine: Engine, second_engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[RunningGateway]]:
    home = tmp_path_factory.mktemp("replicas")
    with (
        start_gateway(engine.url, home, second_engine.url, name="first") as first,
        start_gateway(second_engine.url, home, engine.url, name="second") as second,
    ):
        yield [first, second]


def test_a_long_conversation_is_read_once_whichever_replica_is_asked(
    replicas: list[RunningGateway], engine: Engine, second_engine: Engine
) -> None:
    """The second replica has not seen the first turn: it is the conversation that says where."""
    engines = (engine, second_engine)
    before = [each.read_tokens() for each in engines]
    messages: list[ChatCompletionMessageParam] = [
        user(long_prompt("Heron", PROMPT_TOKENS, engine) + CAPITAL)
    ]
    cached: list[int] = []
    for turn in range(4):
        answer, cached_tokens = ask(replicas[turn % 2].client(), messages)
        cached.append(cached_tokens)
        messages += [{"role": "assistant", "content": answer}, user(CAPITAL)]

    read = [each.read_tokens() - was for each, was in zip(engines, before, strict=True)]
    assert cached[0] == 0
    # Whether vLLM finds the second turn already depends on where the first one's last block ends.
    assert max(cached[1:3]) > 0.9 * PROMPT_TOKENS
    assert cached[3] > 0.9 * PROMPT_TOKENS
    assert min(read) < PROBE_TOKENS


def test_a_worker_started_with_the_launch_file_of_a_long_pool_is_what_it_says(
    second_engine: Engine,
) -> None:
    flags = launch_file(LONG_POOL)
    models = httpx.get(f"{second_engine.url}/v1/models", timeout=TELL_SECONDS)
    (card,) = models.raise_for_status().json()["data"]
    assert (card["id"], card["max_model_len"]) == (
        flags["served-model-name"],
        flags["max-model-len"],
    )
    docs = httpx.get(f"{second_engine.url}/docs", timeout=TELL_SECONDS)
    assert docs.status_code == httpx.codes.NOT_FOUND


def ask(client: OpenAI, messages: list[ChatCompletionMessageParam]) -> tuple[str, int]:
    """The answer, and how many tokens of the prompt its worker had in its cache."""
    with client:
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=400, extra_body=LIKELIEST
        )
    assert answer.usage is not None
    details = answer.usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    return answer.choices[0].message.content or "", cached or 0
