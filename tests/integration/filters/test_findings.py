"""What the filter did is counted and written down by rule and place; what it matched is not."""

import json
from pathlib import Path

import pytest

from app.store.policy import Policy
from tests.integration.filters.conftest import Logged
from tests.integration.filters.samples import (
    ADDRESS,
    CARD,
    MASKS,
    TOKEN,
    metrics_of,
    text_holding,
    write_rules,
)
from tests.support.answers import Answer, ToolCall
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

TOOL = {"type": "function", "function": {"name": "send"}}
PROFILES = "profiles: {guarded: {input: {secrets: refuse}, output: {secrets: block}}}"
MAX_AUDITED_HITS = 256  # one by one
NEVER_WRITTEN = [
    *MASKS,
    TOKEN.removeprefix("ghp_"),
    CARD.replace(" ", ""),
    ADDRESS.partition("@")[0],
]


def sample(metrics: str, series: str) -> float:
    """The value of the series of exactly this name and labels; 0 where there is none."""
    lines = (line.rpartition(" ") for line in metrics.splitlines())
    return next((float(value) for name, _, value in lines if name == series), 0.0)


def hits_total(rule: str, action: str, surface: str) -> str:
    labels = f'action="{action}",rule="{rule}",surface="{surface}"'
    return f"gateway_filter_hits_total{{{labels}}}"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hit_is_written_down_by_rule_action_place_and_span(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    text = f"{ADDRESS} and {CARD}."
    call = ToolCall("send", list(json.dumps({"to": text_holding(ADDRESS)})))
    worker.answers(
        Answer(
            list(text),
            reasoning=list(text_holding(TOKEN)),
            tool_calls=[call],
            finish="tool_calls",
        )
    )
    key = await gateway.issue_key(reasoning="visible")
    response = await gateway.chat(key=key, stream=stream, tools=[TOOL])
    row = await gateway.audited(response.request_id)
    found = {(hit["where"], hit["rule"]): hit for hit in row.findings["filter"]}
    assert len(found) == len(row.findings["filter"]) == 4
    start = len("As asked: ")
    assert found["choices[0].reasoning", "secrets.github-token"]["span"][0] == start
    spans = {
        ("choices[0].answer", "personal-data.email"): [0, len(ADDRESS)],
        ("choices[0].answer", "personal-data.payment-card"): [
            len(f"{ADDRESS} and "),
            len(f"{ADDRESS} and {CARD}"),
        ],
        ("choices[0].arguments", "personal-data.email"): [start, start + len(ADDRESS)],
    }
    for (where, rule), span in spans.items():
        entry = {"rule": rule, "action": "mask", "where": where, "span": span}
        assert found[where, rule] == entry


async def test_an_answer_without_hits_has_no_findings(gateway: RunningGateway) -> None:
    response = await gateway.chat()
    assert "filter" not in (await gateway.audited(response.request_id)).findings


async def test_of_very_many_hits_the_rest_is_counted(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer([f"{number}: {ADDRESS}\n" for number in range(300)]))
    response = await gateway.chat()
    findings = (await gateway.audited(response.request_id)).findings
    assert len(findings["filter"]) == MAX_AUDITED_HITS
    assert findings["filter_more"] == 300 - MAX_AUDITED_HITS
    series = hits_total("personal-data.email", "mask", "answer")
    assert sample(await metrics_of(gateway), series) == 300


async def test_hits_are_counted_by_rule_action_and_surface(
    start_gateway: StartGateway, worker: ScriptedWorker, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "own.yaml", PROFILES)
    gateway = await start_gateway(worker, rules=rules, filter_profile="strict")
    call = ToolCall("send", list(json.dumps({"to": ADDRESS})))
    worker.answers(
        Answer([CARD], reasoning=[ADDRESS], tool_calls=[call], finish="tool_calls"),
        Answer([TOKEN]),
    )
    visible = await gateway.issue_key(reasoning="visible")
    await gateway.chat(key=visible, tools=[TOOL])
    for _ in range(2):
        await gateway.chat()
    await gateway.chat(messages=[{"role": "user", "content": ADDRESS}])
    guarded = await gateway.issue_key(filter_profile="guarded")
    await gateway.chat(key=guarded, messages=[{"role": "user", "content": TOKEN}])
    metrics = await metrics_of(gateway)
    expected = {
        ("personal-data.payment-card", "mask", "answer"): 1,
        ("personal-data.email", "mask", "reasoning"): 1,
        ("personal-data.email", "mask", "arguments"): 1,
        ("personal-data.email", "mask", "prompt"): 1,
        ("secrets.github-token", "block", "answer"): 3,
        ("secrets.github-token", "block", "prompt"): 1,
    }
    for labels, count in expected.items():
        assert sample(metrics, hits_total(*labels)) == count, labels
    assert metrics.count("\ngateway_filter_hits_total{") == len(expected)


async def test_what_was_held_back_is_timed(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    series = "gateway_filter_hold_back_seconds"
    worker.answers(Answer(["Nothing to see here. ", "1 2 3 "]))
    await gateway.chat(stream=True)
    before = sample(await metrics_of(gateway), f"{series}_count")
    worker.answers(Answer(list(text_holding(ADDRESS)), pace_seconds=0.002))
    await gateway.chat(stream=True)
    metrics = await metrics_of(gateway)
    assert sample(metrics, f"{series}_count") > before
    assert sample(metrics, f"{series}_sum") > 0


POLICIES = [
    Policy(reasoning="visible"),
    Policy(reasoning="visible", filter_profile="strict"),
    Policy(reasoning="visible", filter_profile="dry-run"),
    Policy(filter_profile="guarded"),
]


@pytest.mark.parametrize("policy", POLICIES, ids=["default", "strict", "dry-run", "guarded"])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_was_matched_is_in_no_record_no_log_and_no_metric(
    stream: bool,
    policy: Policy,
    logged: Logged,
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    tmp_path: Path,
) -> None:
    gateway = await start_gateway(worker, rules=write_rules(tmp_path / "own.yaml", PROFILES))
    key = await gateway.issue_key(**policy.model_dump(exclude_none=True))
    held = " and ".join(MASKS)
    call = ToolCall("send", list(json.dumps({held: held})))
    texts = {"answer": [held], "thought": list(held)}
    worker.answers(
        Answer(texts["answer"], reasoning=texts["thought"]),
        Answer([], reasoning=["Hm."], tool_calls=[call], finish="tool_calls"),
    )
    function = {"name": "send", "description": held}
    tools = [{"type": "function", "function": function}]
    prompts = ["Hello!", held]
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        asked = TOOL if prompt == "Hello!" else tools[0]
        response = await gateway.chat(key=key, stream=stream, messages=messages, tools=[asked])
        row = str(await gateway.audited(response.request_id))
        for text in NEVER_WRITTEN:
            assert text not in row
    metrics = await metrics_of(gateway)
    assert "\ngateway_filter_hits_total{" in metrics
    assert len(logged.named("request")) >= len(prompts)
    for text in NEVER_WRITTEN:
        assert text not in metrics
        assert text not in logged.text
