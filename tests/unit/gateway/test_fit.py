"""An exact count where a limit is near, and the refusal of a prefill that is too long."""

from dataclasses import replace
from typing import cast

import pytest

from app.errors import ColdPrefillTooLong, ContextTooLong
from app.gateway.fit import count_exactly
from app.gateway.types import PreparedRequest
from app.protocol.prefix import prefix_of
from app.protocol.prompt_text import prompt_text
from app.protocol.request import ChatRequest, Json
from app.protocol.token_estimate import REPORTS_KEPT, profile_of
from app.upstream.workers import Workers
from tests.unit.gateway.preparing import CALLER, REQUEST, Counting, learned, run

WORDS: Json = {"role": "user", "content": "word " * 20_000}
LONG = replace(REQUEST, messages=(WORDS,), body_bytes=100_100)  # some 25,000 tokens
MILLION = 1_000_000


def workers(count: int | None = None, context_tokens: int = MILLION) -> Counting:
    return Counting(context_tokens=context_tokens, count=count)


async def counted(prepared: PreparedRequest, counting: Counting) -> PreparedRequest:
    return await count_exactly(prepared, cast(Workers, counting))


# -- the exact count


async def test_a_workers_count_takes_the_place_of_the_estimate() -> None:
    prepared = await run(LONG, workers())
    assert not prepared.exact
    exact = await counted(prepared, workers(count=31_000))
    assert (exact.prompt_tokens, exact.exact) == (31_000, True)
    assert exact.needed_tokens == 31_000 + exact.max_tokens
    assert exact.max_tokens == prepared.max_tokens == exact.fields["max_tokens"]


async def test_it_is_asked_for_once() -> None:
    exact = await counted(await run(LONG, workers()), workers(count=31_000))
    again = workers(count=99)
    assert await counted(exact, again) is exact
    assert again.asked == 0


async def test_where_no_worker_can_count_nothing_changes() -> None:
    prepared = await run(LONG, workers())
    assert await counted(prepared, workers(count=None)) is prepared


async def test_the_cached_part_stays_the_same_share() -> None:
    prepared = replace(await run(LONG, workers()), prompt_tokens=20_000, cached_tokens=15_000)
    exact = await counted(prepared, workers(count=40_000))
    assert exact.cached_tokens == 30_000


async def test_an_exact_count_beyond_the_context_is_refused() -> None:
    prepared = await run(replace(LONG, max_tokens=500), workers())
    with pytest.raises(ContextTooLong):
        await counted(prepared, workers(count=MILLION - 499))
    default = await counted(await run(LONG, workers()), workers(count=MILLION - 499))
    assert default.max_tokens == default.fields["max_tokens"] == 499


# -- cold prefills


async def test_the_default_is_off() -> None:
    counting = workers()
    assert (await run(LONG, counting)).cached_tokens == 0
    assert counting.asked == 0


@pytest.mark.parametrize(("key", "header"), [(1_000, None), (None, 1_000), (1_000, 10**9)])
async def test_a_prefill_beyond_the_limit_is_refused_without_a_question(
    key: int | None, header: int | None
) -> None:
    counting = workers(count=1)
    request = replace(LONG, max_cold_prefill_tokens=header)
    with pytest.raises(ColdPrefillTooLong) as caught:
        await run(request, counting, max_cold_prefill_tokens=key)
    error = caught.value
    assert (error.status, error.code, error.param) == (409, "cold_prefill_too_long", "messages")
    assert 20_000 < error.cold_tokens < 30_000
    assert error.limit_tokens == 1_000
    assert str(error.cold_tokens) in error.message
    assert "1000" in error.message
    assert dict(error.headers()) == {
        b"x-should-retry": b"false",
        b"x-gateway-cold-prefill-tokens": b"%d" % error.cold_tokens,
    }
    assert counting.asked == 0


async def test_a_header_lowers_what_the_key_allows() -> None:
    request = replace(LONG, max_cold_prefill_tokens=1_000)
    with pytest.raises(ColdPrefillTooLong) as caught:
        await run(request, workers(), max_cold_prefill_tokens=10**6)
    assert caught.value.limit_tokens == 1_000


@pytest.mark.parametrize("limit", [21_000, 25_000, 30_000])
async def test_near_the_limit_a_worker_decides(limit: int) -> None:
    fits = workers(count=limit)
    prepared = await run(LONG, fits, max_cold_prefill_tokens=limit)
    assert (prepared.prompt_tokens, prepared.exact, fits.asked) == (limit, True, 1)
    with pytest.raises(ColdPrefillTooLong) as caught:
        await run(LONG, workers(count=limit + 1), max_cold_prefill_tokens=limit)
    assert caught.value.cold_tokens == limit + 1


async def test_far_below_the_limit_nobody_is_asked() -> None:
    counting = workers(count=10**6)
    await run(LONG, counting, max_cold_prefill_tokens=100_000)
    assert counting.asked == 0


async def test_an_estimate_that_was_trained_down_does_not_lift_the_limit() -> None:
    knowing = learned()
    profile = profile_of(prompt_text({"messages": [WORDS]}))
    for _ in range(REPORTS_KEPT):  # prompts of one letter look so
        knowing.estimates.learn("key_1", profile, round(profile.text_tokens / 4))
    counting = workers(count=25_000)
    with pytest.raises(ColdPrefillTooLong) as caught:
        await run(LONG, counting, knowing=knowing, max_cold_prefill_tokens=12_000)
    assert (caught.value.cold_tokens, counting.asked) == (25_000, 1)


async def test_a_warm_prompt_may_be_longer() -> None:
    knowing = learned()
    before = prefix_of(prompt_text({"messages": [WORDS]}), "acme")
    knowing.prefixes.remember(before, "worker:8000", CALLER.started_at)
    answer: Json = {"role": "assistant", "content": "Words."}
    follow_up = ChatRequest("qwythos", (WORDS, answer, REQUEST.messages[0]), body_bytes=100_200)
    prepared = await run(follow_up, workers(), knowing=knowing, max_cold_prefill_tokens=1_000)
    assert 0 < prepared.cold_tokens < 100
    with pytest.raises(ColdPrefillTooLong):
        await run(
            follow_up, workers(), knowing=knowing, tenant="other", max_cold_prefill_tokens=1_000
        )


async def test_a_warm_prompt_leaves_a_default_output_more_room() -> None:
    knowing = learned()
    cold = await run(LONG, workers(), knowing=knowing, tokens_per_minute=25_500)
    before = prefix_of(prompt_text({"messages": [WORDS]}), "acme")
    knowing.prefixes.remember(before, "worker:8000", CALLER.started_at)
    warm = await run(LONG, workers(), knowing=knowing, tokens_per_minute=25_500)
    assert cold.max_tokens < 1_000 < warm.max_tokens
