import httpx
import pytest
from openai import BadRequestError, OpenAI

from tests.engine.conftest import ANSWER_SECONDS, Engine, RunningGateway
from tests.engine.conversation import (
    CAPITAL,
    CAPITAL_ANSWER,
    LIKELIEST,
    MODEL,
    THOUGHT_MARKS,
    user,
)
from tests.engine.prompts import long_prompt

CONTEXT_TOKENS = 1_010_000
KEEP_ALIVE = b": keep-alive\n\n"
# Of a client that gives up where nothing comes: more than a loaded machine stalls, and less than
# the prefill takes there, which is up to two minutes; on a processor with AVX-512 BF16 it is ten
# seconds, and only the comments tell.
READ_SECONDS = 20


def test_long_prompt_is_answered_and_kept_alive(engine: Engine, gateway: RunningGateway) -> None:
    tokens = 120_000
    body = {
        "model": MODEL,
        "messages": [user(long_prompt("Heron", tokens, engine) + CAPITAL)],
        "max_tokens": 400,
        "stream": True,
        "stream_options": {"include_usage": True},
    } | LIKELIEST
    with httpx.stream(
        "POST",
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {gateway.key}"},
        timeout=httpx.Timeout(ANSWER_SECONDS, read=READ_SECONDS),
    ) as answer:
        assert answer.status_code == httpx.codes.OK
        wire = b"".join(answer.iter_raw())

    # So far from its training text the model answers, but not always what was asked.
    silence, data = wire.split(b"data:", 1)
    assert silence.count(KEEP_ALIVE) >= 1
    assert silence == KEEP_ALIVE * silence.count(KEEP_ALIVE)
    assert b'"finish_reason":"stop"' in data
    assert b'"content":"' in data  # in how many pieces is up to the machine
    assert data.endswith(b"data: [DONE]\n\n")
    for mark in THOUGHT_MARKS:
        assert mark.encode() not in data


def test_second_turn_of_a_long_conversation_is_read_from_the_cache(
    engine: Engine, client: OpenAI
) -> None:
    text = long_prompt("Heron", 20_000, engine)
    # vLLM may find a prompt of the second time only from the third one on: whether it keeps a
    # checkpoint at the end of one that it has read depends on where its last block ends.
    for _ in range(3):
        answer = client.chat.completions.create(
            model=MODEL, messages=[user(text + CAPITAL)], max_tokens=400, extra_body=LIKELIEST
        )

    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None
    assert answer.usage.prompt_tokens_details.cached_tokens > 10_000


def test_short_prompt_with_too_many_max_tokens_is_refused(client: OpenAI) -> None:
    assert_context_exceeded(client, CAPITAL, CONTEXT_TOKENS)


def test_prompt_and_max_tokens_that_fit_only_apart_are_refused(
    engine: Engine, client: OpenAI
) -> None:
    """vLLM would cut the answer to what is left, and say nothing."""
    text = long_prompt("Weasel", 60_000, engine)
    assert_context_exceeded(client, text + CAPITAL, CONTEXT_TOKENS - 50_000)


def test_prompt_beyond_the_context_is_refused(engine: Engine, client: OpenAI) -> None:
    text = long_prompt("Marten", CONTEXT_TOKENS, engine)
    assert_context_exceeded(client, text + CAPITAL, None)


def test_max_tokens_that_just_fit_are_served(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[user(CAPITAL)], max_tokens=CONTEXT_TOKENS - 1000
    )

    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.strip() == CAPITAL_ANSWER


def assert_context_exceeded(client: OpenAI, prompt: str, max_tokens: int | None) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=[user(prompt)], max_tokens=max_tokens)

    assert refused.value.code == "context_length_exceeded"
    assert "context_length_exceeded" in refused.value.message
    assert str(CONTEXT_TOKENS) in refused.value.message
