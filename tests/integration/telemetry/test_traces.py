"""A request's trace: from its caller, through the gateway, on to the worker and the collector."""

import asyncio
from typing import Any

import pytest

from tests.support.answers import Answer, Break, End
from tests.support.collector import Collector
from tests.support.coming_again import RETRY, ask, joined, start
from tests.support.gateway import CHAT, RunningGateway, StartGateway, chat_body
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "shop=t61rcWkgMzE"}
SLOW = Answer([f"word {number} " for number in range(40)], pace_seconds=0.05)
ENDLESS = Answer(breaks=Break(End.HANG, after=2))
TOGETHER = 12


async def started(
    start_gateway: StartGateway, collector: Collector, *workers: ScriptedWorker, **settings: Any
) -> RunningGateway:
    values = {"otlp_endpoint": collector.url, "trace_flush_seconds": 0.05} | settings
    return await start_gateway(*workers, **values)


def trace_of(worker_request: Any) -> tuple[str, str, str]:
    """Trace, parent and flags, as the worker was told them."""
    version, trace_id, span_id, flags = worker_request.header("traceparent").split("-")
    assert version == "00"
    return trace_id, span_id, flags


async def test_a_trace_that_came_in_goes_on_to_the_worker_and_to_the_collector(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    collector: Collector,
    capfd: pytest.CaptureFixture[str],
) -> None:
    gateway = await started(start_gateway, collector, worker)
    response = await gateway.request("POST", CHAT, body=chat_body(temperature=1), headers=PARENT)
    assert response.status == 200
    whole = await collector.request()
    assert (whole.trace_id, whole.parent_id, whole.state) == (TRACE, CALLER, "shop=t61rcWkgMzE")
    assert not whole.failed
    (attempt,) = collector.of_kind("CLIENT")
    assert attempt.parent_id == whole.span_id
    assert trace_of(worker.only) == (TRACE, attempt.span_id, "01")
    assert worker.only.header("tracestate") == "shop=t61rcWkgMzE"
    assert whole.started_ns <= attempt.started_ns < attempt.ended_ns <= whole.ended_ns
    said = whole.attributes
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.request.model"] == "qwythos"
    assert said["gen_ai.request.temperature"] == 1
    assert said["gen_ai.usage.input_tokens"] == 7
    assert said["gen_ai.response.finish_reasons"] == ["stop"]
    assert said["http.response.status_code"] == 200
    assert said["gateway.request_id"] == response.request_id
    assert said["gateway.tenant"] == "acme"
    assert "error.type" not in said
    assert attempt.attributes["server.address"] == "127.0.0.1"
    assert attempt.attributes["server.port"] == int(worker.url.rpartition(":")[2])
    assert attempt.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert whole.resource["service.name"] == "qwythos-gateway"
    lines = capfd.readouterr().out
    assert f"trace_id={TRACE}" in lines
    assert f"span_id={whole.span_id}" in lines


async def test_a_header_that_is_malformed_begins_a_new_trace(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, collector, worker)
    headers = {"traceparent": f"00-{TRACE}-{CALLER}", "tracestate": "a=b", "baggage": "user=1"}
    await gateway.request("POST", CHAT, body=chat_body(), headers=headers)
    whole = await collector.request()
    assert whole.trace_id != TRACE
    assert whole.parent_id == ""
    assert trace_of(worker.only)[0] == whole.trace_id
    assert worker.only.header("tracestate") is None
    assert worker.only.header("baggage") is None


async def test_a_client_cannot_ask_for_more_spans_than_the_ratio_gives(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    """Its trace is passed on all the same, with the word that nothing is kept."""
    gateway = await started(start_gateway, collector, worker, trace_sample_ratio=0)
    for _ in range(5):
        await gateway.request("POST", CHAT, body=chat_body(), headers=PARENT)
    for request in worker.requests:
        trace_id, _, flags = trace_of(request)
        assert (trace_id, flags) == (TRACE, "00")
    followed = await started(
        start_gateway, collector, worker, trace_sample_ratio=0, trace_follow_clients=True
    )
    await followed.request("POST", CHAT, body=chat_body(), headers=PARENT)
    await collector.request()


async def test_without_a_collector_no_header_reaches_a_worker(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    response = await gateway.request("POST", CHAT, body=chat_body(), headers=PARENT)
    assert response.status == 200
    assert worker.only.header("traceparent") is None
    assert worker.only.header("tracestate") is None


async def test_each_try_has_its_own_span(
    start_gateway: StartGateway,
    worker: ScriptedWorker,
    second_worker: ScriptedWorker,
    collector: Collector,
) -> None:
    worker.answers(Answer(breaks=Break(End.RESET, after=None)), Answer())
    second_worker.takes_turns_with(worker)
    gateway = await started(start_gateway, collector, worker, second_worker)
    assert (await gateway.chat()).status == 200
    whole = await collector.request()
    first, second = (each for each in collector.below(whole) if each.kind == "CLIENT")
    assert first.failed
    assert first.attributes["error.type"] == "connect"
    assert not second.failed
    assert not whole.failed
    assert whole.attributes["gateway.attempts"] == 2
    asked = {trace_of(request)[1] for each in (worker, second_worker) for request in each.requests}
    assert asked == {first.span_id, second.span_id}


async def test_an_answer_that_breaks_fails_its_spans(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    worker.answers(Answer(breaks=Break(End.RESET, after=2)))
    gateway = await started(start_gateway, collector, worker)
    await gateway.chat(stream=True)
    whole = await collector.request()
    (attempt,) = collector.of_kind("CLIENT")
    assert whole.failed
    assert attempt.failed
    assert whole.attributes["error.type"] == "upstream_error"


async def test_a_client_that_leaves_ends_every_span_of_its_request(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    worker.answers(ENDLESS)
    gateway = await started(start_gateway, collector, worker)
    async with gateway.raw() as client:
        await client.send(request_bytes(CHAT, gateway.key, chat_body(stream=True)))
        request = await worker.received()
    await worker.closed(request, within=10)
    whole = await collector.request()
    assert whole.attributes["error.type"] == "client_disconnected"
    assert whole.attributes["gateway.outcome"] == "cancelled"
    assert not whole.failed
    (attempt,) = collector.of_kind("CLIENT")
    assert attempt.parent_id == whole.span_id
    assert attempt.attributes["error.type"] == "client_disconnected"


async def test_the_end_of_the_drain_ends_every_span_of_its_request(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    worker.answers(ENDLESS)
    gateway = await started(start_gateway, collector, worker)
    answering = start(gateway.chat(stream=True))
    await worker.received()
    gateway.drain.begin()
    gateway.drain.expire()
    await answering
    whole = await collector.request()
    assert whole.attributes["gateway.outcome"] == "drained"
    assert whole.failed


async def test_what_is_refused_has_a_span_that_did_not_fail(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await started(start_gateway, collector, worker)
    await gateway.chat(key="sk-qw-unknown")
    await gateway.chat(model="gpt-4")
    await gateway.request("GET", "/v1/models/none")
    spans = await collector.requests(3)
    by_code = {span.attributes["error.type"]: span for span in spans}
    assert by_code.keys() == {"invalid_api_key", "model_not_found"}
    assert not any(span.failed for span in spans)
    assert by_code["invalid_api_key"].name == f"POST {CHAT}"
    assert "gateway.tenant" not in by_code["invalid_api_key"].attributes
    assert not collector.of_kind("CLIENT")


async def test_a_request_that_comes_again_is_linked_to_the_one_that_is_answered(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    worker.answers(SLOW)
    gateway = await started(start_gateway, collector, worker)
    first = start(ask(gateway, stream=True))
    await worker.received()
    again = start(ask(gateway, stream=True, headers=RETRY))
    await joined(gateway)
    await asyncio.gather(first, again)
    spans = await collector.requests(2)
    (follower,) = (span for span in spans if "gateway.attached_to" in span.attributes)
    (leader,) = (span for span in spans if span is not follower)
    assert follower.links == (leader.span_id,)
    assert follower.trace_id != leader.trace_id
    assert follower.attributes["gateway.attached_to"] == leader.attributes["gateway.request_id"]


async def test_requests_that_run_together_stay_in_their_own_traces(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    worker.answers(Answer(pace_seconds=0.01))
    gateway = await started(start_gateway, collector, worker)

    async def ask_in(number: int) -> None:
        headers = {"traceparent": f"00-{number:032x}-{number:016x}-01"}
        body = chat_body(messages=[{"role": "user", "content": f"number {number}"}])
        await gateway.request("POST", CHAT, body=body, headers=headers)

    numbers = range(1, TOGETHER + 1)
    await asyncio.gather(*map(ask_in, numbers))
    spans = await collector.requests(TOGETHER)
    assert {int(span.trace_id, 16) for span in spans} == set(numbers)
    for span in spans:
        assert int(span.parent_id, 16) == int(span.trace_id, 16)
    for request in worker.requests:
        trace_id, span_id, _ = trace_of(request)
        assert request.json["messages"][-1]["content"] == f"number {int(trace_id, 16)}"
        (attempt,) = (each for each in collector.spans if each.span_id == span_id)
        assert attempt.trace_id == trace_id
