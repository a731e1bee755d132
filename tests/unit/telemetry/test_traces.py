from collections.abc import Sequence

import pytest

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, ToolCallDelta
from app.telemetry.spans import Conclusion, Span
from app.telemetry.trace_context import TraceHeaders
from app.telemetry.traces import UNTRACED, NoTraces, Step, Trace, Traces

PARENT = TraceHeaders([f"00-{'a' * 32}-{'b' * 16}-01"], [])
NOT_KEPT = TraceHeaders([f"00-{'a' * 32}-{'b' * 16}-00"], [])
NOBODY = TraceHeaders([], [])
RECEIVED_AT = 1_700_000_000.0
END = Conclusion("GET /x", {"http.response.status_code": 200}, None, False)
BEGUN = 1_000  # traces of a ratio of a half: by chance alone, fewer than 350 or more than 650
# would be kept of them once in 10^21 times


class Sink:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    def offer(self, spans: Sequence[Span]) -> None:
        self.spans += spans


class Bench:
    """A trace, a clock that a test moves, and what came of it."""

    def __init__(
        self, *, ratio: float = 1.0, follow_clients: bool = False, content: bool = False
    ) -> None:
        self.now = 50.0
        self.sink = Sink()
        self.traces = Traces(
            self.sink,
            lambda: self.now,
            ratio=ratio,
            follow_clients=follow_clients,
            content=content,
        )

    def begin(self, headers: TraceHeaders = NOBODY) -> Trace:
        return self.traces.begin(lambda: headers, RECEIVED_AT, 50.0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("worker", "address", "port"),
    [
        ("10.0.0.5:8000", "10.0.0.5", 8000),
        ("worker/path:1", "worker", None),
        ("[::1]", "::1", None),
    ],
)
def test_a_try_says_where_its_worker_is(
    bench: Bench, worker: str, address: str, port: int | None
) -> None:
    trace = bench.begin()
    trace.attempt(worker, model=None, pool="default", engine="vllm")
    trace.end(lambda: END)
    attributes = bench.sink.spans[0].attributes
    assert attributes["server.address"] == address
    assert attributes.get("server.port") == port


def test_a_step_lasts_until_the_next_one_begins(bench: Bench) -> None:
    trace = bench.begin()
    trace.step(Step.LIMITS)
    bench.now += 2
    trace.step(Step.QUEUE)
    bench.now += 3
    trace.end(lambda: END)
    limits, queue, whole = bench.sink.spans
    assert (limits.name, queue.name, whole.name) == ("limits", "wait for a worker", "GET /x")
    assert limits.started_ns == 1_700_000_000 * 10**9
    assert limits.ended_ns == queue.started_ns == 1_700_000_002 * 10**9
    assert queue.ended_ns == whole.ended_ns == 1_700_000_005 * 10**9
    assert limits.parent_id == queue.parent_id == whole.span_id
    assert whole.parent_id is None


def test_a_step_that_took_no_time_leaves_no_span_unless_it_failed(bench: Bench) -> None:
    trace = bench.begin()
    trace.step(Step.SCREEN)
    trace.step(Step.PREPARE)
    trace.failed("context_length_exceeded")
    trace.end(lambda: END)
    prepare, _ = bench.sink.spans
    assert prepare.name == "prepare"
    assert prepare.error == "context_length_exceeded"


def test_a_try_that_failed_is_not_ended_again(bench: Bench) -> None:
    trace = bench.begin()
    trace.attempt("[::1]:8000", model="m", pool="long", engine="vllm")
    first = trace.worker_headers()
    bench.now += 1
    trace.failed("connect")
    trace.failed("upstream_error")
    trace.attempt("worker-2", model=None, pool="long", engine="sglang")
    bench.now += 1
    trace.began()
    trace.end(lambda: END)
    one, two, _ = bench.sink.spans
    assert one.error == "connect"
    assert one.attributes["server.address"] == "::1"
    assert one.attributes["server.port"] == 8000
    assert first["traceparent"].split("-")[2] == f"{one.span_id:016x}"
    assert two.error is None
    assert two.attributes["server.address"] == "worker-2"
    assert "server.port" not in two.attributes
    assert two.attributes["gen_ai.response.time_to_first_chunk"] == 1


def test_a_trace_ends_once(bench: Bench) -> None:
    trace = bench.begin()
    trace.end(lambda: END)
    trace.end(lambda: END)
    assert len(bench.sink.spans) == 1


@pytest.mark.parametrize("headers", [PARENT, NOT_KEPT, NOBODY])
def test_the_ratio_decides_whatever_the_caller_says(headers: TraceHeaders) -> None:
    assert not Bench(ratio=0.0).begin(headers).recorded
    assert Bench(ratio=1.0).begin(headers).recorded
    half = Bench(ratio=0.5)
    assert 350 < sum(half.begin(headers).recorded for _ in range(BEGUN)) < 650


def test_callers_decide_where_they_may() -> None:
    assert Bench(ratio=0.0, follow_clients=True).begin(PARENT).recorded
    assert not Bench(ratio=1.0, follow_clients=True).begin(NOT_KEPT).recorded
    assert Bench(ratio=1.0, follow_clients=True).begin(NOBODY).recorded


def test_what_is_not_kept_is_passed_on_with_that_word() -> None:
    trace = Bench(ratio=0.0).begin(PARENT)
    trace.attempt("w:1", model=None, pool="default", engine="vllm")
    header = trace.worker_headers()["traceparent"]
    assert header == f"00-{'a' * 32}-{trace.span_id}-00"
    assert trace.link is None


def test_without_a_collector_no_header_is_read_or_written() -> None:
    def unread() -> TraceHeaders:
        raise AssertionError("the request's headers were read")

    trace = NoTraces().begin(unread, RECEIVED_AT, 50.0)
    assert trace is UNTRACED
    trace.attempt("w:1", model=None, pool="default", engine="vllm")
    assert trace.worker_headers() == {}
    assert trace.trace_id is None


def test_of_an_answer_what_was_shown_is_kept_where_that_was_asked_for() -> None:
    events = [
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        ReasoningDelta(1, "Hm"),
        ToolCallDelta(0, 0, '{"a"', "call_1", "f"),
        ToolCallDelta(0, 0, ": 1}"),
        SealedReasoning(0, "sealed"),
    ]
    plain = Bench().begin()
    plain.said(events)
    assert plain.answer is None
    trace = Bench(content=True).begin()
    trace.said(events)
    shown = trace.answer
    assert shown is not None
    assert shown.texts == {0: ["Hel", "lo"]}
    assert shown.thoughts == {1: ["Hm"]}
    assert [(call.name, call.arguments) for call in shown.calls.values()] == [("f", '{"a": 1}')]
    assert events[3] == ToolCallDelta(0, 0, '{"a"', "call_1", "f")  # ours to read only
