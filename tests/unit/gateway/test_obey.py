"""What a key's policy makes of a request: refused, changed, or read by other rules."""

from dataclasses import replace
from typing import Any

import pytest

from app.errors import Forbidden, InvalidRequest
from app.protocol.request import ChatRequest
from app.protocol.rules import AnswerRules, LoopRules, ToolRule
from app.settings import Settings
from tests.unit.gateway.preparing import REQUEST, Counting, run, tool

TOOLS = (tool("get_weather"), tool("get_time"), tool("rm_rf"))


def sampled(**sampling: Any) -> ChatRequest:
    return replace(REQUEST, sampling=sampling)


# -- tools


async def test_a_tool_that_the_key_may_not_use_is_refused_and_named() -> None:
    workers = Counting()
    with pytest.raises(Forbidden) as caught:
        await run(replace(REQUEST, tools=TOOLS), workers, tools=[{"name": "get_*"}])
    error = caught.value
    assert (error.status, error.code) == (403, "tool_not_allowed")
    assert error.param == "tools[2].function.name"
    assert "'rm_rf'" in error.message
    assert workers.counted("gateway_tools_refused_total") == 1


@pytest.mark.parametrize("choice", ["none", "auto", tool("get_time")])
async def test_it_is_refused_whatever_the_choice(choice: Any) -> None:
    request = replace(
        REQUEST, tools=TOOLS, tool_choice=choice, allowed_tools=frozenset({"get_time"})
    )
    with pytest.raises(Forbidden):
        await run(request, tools=[{"name": "get_*"}])


@pytest.mark.parametrize(
    ("globs", "may"),
    [
        (["*"], True),
        (["get_weather", "get_time", "rm_rf"], True),
        (["get_?????*", "r[m]_rf", "get_time"], True),
        (["GET_*", "rm_rf"], False),
        (["get_", "rm_rf"], False),
        ([], False),
    ],
)
async def test_names_are_globs(globs: list[str], may: bool) -> None:
    request = replace(REQUEST, tools=TOOLS)
    rules = [{"name": name} for name in globs]
    if may:
        assert len((await run(request, tools=rules)).fields["tools"]) == 3
    else:
        with pytest.raises(Forbidden):
            await run(request, tools=rules)


async def test_a_key_without_tools_may_still_talk() -> None:
    prepared = await run(tools=[])
    assert prepared.rules.calls.allowed == ()


async def test_the_rules_of_the_key_bind_the_answer_too() -> None:
    rules = [{"name": "get_*", "arguments": {"city": "P.*"}}, {"name": "rm_rf"}]
    prepared = await run(replace(REQUEST, tools=TOOLS, parallel_tool_calls=False), tools=rules)
    calls = prepared.rules.calls
    assert calls.allowed == (ToolRule("get_*", {"city": "P.*"}), ToolRule("rm_rf"))
    assert calls.single
    unbound = (await run(replace(REQUEST, tools=TOOLS))).rules.calls
    assert unbound.allowed is None
    assert not unbound.single


# -- parameters of the engine


@pytest.mark.parametrize("name", ["top_k", "min_p", "repetition_penalty", "seed"])
async def test_a_parameter_that_the_key_may_not_set_is_refused_and_named(name: str) -> None:
    request = replace(REQUEST, seed=1) if name == "seed" else sampled(**{name: 1})
    others = [n for n in ("top_k", "min_p", "repetition_penalty", "seed") if n != name]
    with pytest.raises(Forbidden) as caught:
        await run(request, engine_parameters=others)
    assert (caught.value.code, caught.value.param) == ("parameter_not_allowed", name)
    assert f"'{name}'" in caught.value.message
    await run(request, engine_parameters=[name])
    await run(request)


async def test_openais_own_parameters_are_for_everyone() -> None:
    wanted = {"temperature": 1.0, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": 1}
    prepared = await run(sampled(**wanted), engine_parameters=[])
    assert {name: prepared.fields[name] for name in wanted} == wanted


# -- cold sampling, and the cap


@pytest.mark.parametrize("temperature", [0, 0.0, 0.2, 0.3])
async def test_a_cold_temperature_is_raised_to_the_floor_and_that_is_noted(
    temperature: float,
) -> None:
    for policy in ({}, {"cold_sampling": "raise"}):
        prepared = await run(sampled(temperature=temperature, top_k=3), **policy)
        assert prepared.fields["temperature"] == 0.4
        assert prepared.fields["top_k"] == 3
        assert prepared.adjusted == {"temperature": 0.4}


async def test_the_floor_is_a_setting() -> None:
    prepared = await run(sampled(temperature=0), settings=Settings(temperature_floor=0.7))
    assert prepared.fields["temperature"] == 0.7


async def test_a_cold_temperature_is_refused_where_the_policy_says_so() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await run(sampled(temperature=0.3), cold_sampling="refuse")
    assert (caught.value.status, caught.value.param) == (400, "temperature")
    assert "above 0.3" in caught.value.message
    assert (await run(sampled(temperature=0.31), cold_sampling="refuse")).adjusted == {}


async def test_a_cold_temperature_is_passed_where_the_policy_says_so() -> None:
    prepared = await run(sampled(temperature=0), cold_sampling="pass")
    assert prepared.fields["temperature"] == 0
    assert prepared.adjusted == {}


@pytest.mark.parametrize("cold_sampling", [None, "raise", "refuse", "pass"])
async def test_a_client_that_sets_no_temperature_is_not_adjusted(cold_sampling: Any) -> None:
    prepared = await run(cold_sampling=cold_sampling)
    assert "temperature" not in prepared.fields
    assert prepared.adjusted == {}


async def test_a_clamped_max_tokens_is_noted_if_the_client_named_more() -> None:
    prepared = await run(replace(REQUEST, max_tokens=500), max_output_tokens=100)
    assert prepared.adjusted == {"max_tokens": 100}
    assert prepared.fields["max_tokens"] == 100
    for request in (replace(REQUEST, max_tokens=100), REQUEST):
        assert (await run(request, max_output_tokens=100)).adjusted == {}


# -- the thinking quota


@pytest.mark.parametrize(
    ("policy", "setting", "effort", "quota"),
    [
        (None, None, None, None),
        (None, None, "high", None),
        (None, None, "none", 64),
        (None, None, "medium", 4_096),
        (500, None, None, 500),
        (500, None, "low", 500),
        (5_000, None, "low", 1_024),
        (5_000, 300, "low", 300),
        (None, 300, None, 300),
        (1, 300, "none", 1),
    ],
)
async def test_the_least_quota_applies(
    policy: int | None, setting: int | None, effort: str | None, quota: int | None
) -> None:
    prepared = await run(
        replace(REQUEST, reasoning_effort=effort),
        settings=Settings(max_thinking_tokens=setting),
        max_thinking_tokens=policy,
    )
    assert prepared.fields.get("thinking_token_budget") == quota
    assert prepared.rules.max_thinking_tokens == quota
    assert "reasoning_effort" not in prepared.fields


# -- the rules of the answer


async def test_without_a_policy_the_settings_say_how_an_answer_is_read() -> None:
    settings = Settings(
        hold_characters=100, loop_repeats=3, loop_thought_characters=300, loop_answer_characters=900
    )
    prepared = await run(replace(REQUEST, n=2, stop=("END",)), settings=settings)
    assert prepared.rules == AnswerRules(
        n=2,
        stop=("END",),
        call_prefix="call_abc",
        loops=LoopRules(repeats=3, thought_characters=300, answer_characters=900),
        hold_characters=100,
    )
    assert (prepared.seal, prepared.salvage_tokens, prepared.call_required) == (False, None, False)


@pytest.mark.parametrize(
    ("policy", "shown", "kept", "sealed"),
    [
        ({}, False, False, False),
        ({"reasoning": "hidden"}, False, False, False),
        ({"reasoning": "visible"}, True, False, False),
        ({"reasoning": "sealed"}, False, True, True),
        ({"salvage_tokens": 10}, False, True, False),
    ],
)
async def test_the_policy_says_what_becomes_of_the_thought(
    policy: dict[str, Any], shown: bool, kept: bool, sealed: bool
) -> None:
    prepared = await run(**policy)
    assert prepared.rules.show_thought is shown
    assert prepared.rules.keep_thought is kept
    assert prepared.seal is sealed
    assert prepared.salvage_tokens == policy.get("salvage_tokens")


@pytest.mark.parametrize("reasoning", ["visible", "sealed"])
async def test_the_older_route_never_shows_a_thought(reasoning: str) -> None:
    prepared = await run(replace(REQUEST, chat=False), reasoning=reasoning, sealer=None)
    assert not prepared.rules.show_thought
    assert not prepared.rules.keep_thought
    assert not prepared.seal


@pytest.mark.parametrize("say", [None, "hide", "show"])
async def test_a_second_thought_is_text_only_where_the_policy_says_so(say: Any) -> None:
    rules = (await run(think_in_answer=say)).rules
    assert rules.show_second_thought is (say == "show")
    assert rules.calls.thought_in_arguments is (say == "show")
