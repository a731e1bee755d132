"""The estimate of a prompt's tokens learns from workers, key by key, and asks them for nothing."""

import pytest

from tests.support.answers import Answer
from tests.support.gateway import CHAT, Json, RunningGateway, StartGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

WORDS = {"russian": "слово ", "chinese": "你好世界"}


def prompt(language: str) -> list[Json]:
    return [{"role": "user", "content": WORDS[language] * 400}]


async def estimate(gateway: RunningGateway, key: str, messages: list[Json]) -> int:
    """As the gateway tells it to whoever wants no prefill at all."""
    response = await gateway.request(
        "POST",
        CHAT,
        body=chat_body(messages=messages),
        key=key,
        headers={"x-gateway-max-cold-prefill-tokens": "1"},
    )
    assert response.status == 409
    return int(response.headers["x-gateway-cold-prefill-tokens"])


@pytest.mark.parametrize("language", ["russian", "chinese"])
@pytest.mark.parametrize("factor", [0.6, 2])
async def test_a_keys_estimate_converges_and_anothers_is_untouched(
    language: str, factor: float, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key, other = await gateway.issue_key(), await gateway.issue_key()
    messages = prompt(language)
    before = await estimate(gateway, key, messages)
    true = round(before * factor)
    worker.answers(Answer(prompt_tokens=true))
    for _ in range(3):
        assert (await gateway.chat(key=key, messages=messages)).status == 200
    assert await estimate(gateway, key, messages) == pytest.approx(true, rel=0.03)
    assert await estimate(gateway, other, messages) == before
    english: list[Json] = [{"role": "user", "content": "word " * 400}]
    assert await estimate(gateway, key, english) == await estimate(gateway, other, english)


async def test_ordinary_prompts_are_not_counted_by_a_worker(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker)
    key = await gateway.issue_key(
        tokens_per_minute=10_000_000, max_cold_prefill_tokens=20_000, max_output_tokens=1_000
    )
    for language in WORDS:
        for _ in range(3):
            assert (await gateway.chat(key=key, messages=prompt(language))).status == 200
    assert "/tokenize" not in worker.paths


async def test_how_good_the_estimates_are_is_counted(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(prompt_tokens=2_000))
    await gateway.chat(messages=prompt("russian"))
    await gateway.chat()  # too short to tell
    shown = (await gateway.request("GET", "/metrics")).body.decode().splitlines()
    assert "gateway_prompt_estimate_ratio_count 1.0" in shown
    assert 'gateway_prompt_estimate_ratio_bucket{le="1.0"} 1.0' in shown
