"""How the engines differ, a row a test: what each of them sends becomes one thing here.

Whole answers are in `tests/transcripts` and in `tests/integration/test_engines.py`.
"""

import json
from typing import Any

import orjson
import pytest

from app.errors import ContextTooLong, InvalidRequest, Unavailable, UpstreamFailed
from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import (
    Event,
    Finish,
    ReasoningDelta,
    StreamFailed,
    ToolCallDelta,
    UsageReport,
)
from app.settings import Engine, WorkerSettings
from app.upstream.engines import Dialect, dialect_of, rid_of, worker_body
from app.upstream.refusals import refusal

REQUEST_ID = "req_" + "0" * 32


def worker(engine: Engine) -> WorkerSettings:
    return WorkerSettings.model_validate({"url": "http://w:1", "engine": engine})


def dialect(engine: Engine) -> Dialect:
    return dialect_of(worker(engine))


def events(**chunk: Any) -> list[Event]:
    return decode_chunk(json.dumps(chunk).encode())


def choice(delta: dict[str, Any] | None = None, **fields: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta or {}} | fields]


@pytest.mark.parametrize(
    ("engine", "field"),
    [
        (Engine.VLLM, "reasoning"),
        (Engine.SGLANG, "reasoning_content"),
        (Engine.TRANSFORMERS, "reasoning_content"),
        (Engine.LLAMACPP, "reasoning_content"),
        (Engine.OPENAI, "reasoning_content"),
    ],
)
def test_the_thought_under_each_name(engine: Engine, field: str) -> None:
    assert events(choices=choice({field: "hm"})) == [ReasoningDelta(0, "hm")]


COUNTS = {"prompt_tokens": 20, "completion_tokens": 6}
DETAILS = {"prompt_tokens_details": {"cached_tokens": 4}}


@pytest.mark.parametrize(
    ("chunk", "reasoning"),
    [
        # vLLM, a chunk of its own
        (
            {
                "choices": [],
                "usage": COUNTS | DETAILS | {"completion_tokens_details": {"reasoning_tokens": 3}},
            },
            3,
        ),
        # SGLang, likewise, with the thought at the top
        ({"choices": [], "usage": COUNTS | DETAILS | {"reasoning_tokens": 3}}, 3),
        # Transformers, on the last chunk
        ({"choices": choice(finish_reason="stop"), "usage": COUNTS | DETAILS}, None),
    ],
)
def test_usage_wherever_it_stands(chunk: dict[str, Any], reasoning: int | None) -> None:
    assert events(**chunk)[-1] == UsageReport(20, 6, reasoning, 4)


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        ({"error": {"message": "boom", "type": "x", "param": None, "code": 500}}, "500"),
        ({"object": "error", "message": "boom", "type": "x", "param": None, "code": 500}, "500"),
        ({"error": "boom"}, None),
        ({"error": {"message": "boom"}}, None),
    ],
)
def test_an_error_in_the_stream_in_each_shape(chunk: dict[str, Any], code: str | None) -> None:
    assert events(**chunk) == [StreamFailed("boom", code)]


def test_an_error_of_transformers_that_is_no_json_is_no_answer() -> None:
    with pytest.raises(MalformedChunk):
        decode_chunk(b'{"error": "no module named "x""}')


BODIES = {
    Engine.VLLM: {"error": {"message": "SECRET", "type": "BadRequestError", "code": 400}},
    Engine.SGLANG: {"object": "error", "message": "SECRET", "type": "BadRequest", "code": 400},
    Engine.TRANSFORMERS: {"detail": [{"msg": "SECRET"}]},
    Engine.LLAMACPP: {"error": {"code": 400, "message": "SECRET", "type": "invalid_request"}},
    Engine.OPENAI: {"error": "SECRET"},
}


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, InvalidRequest), (422, InvalidRequest), (429, Unavailable), (503, Unavailable),
     (500, UpstreamFailed), (404, UpstreamFailed)],
)  # fmt: skip
def test_a_refusal_is_told_by_its_status_and_in_our_words(
    engine: Engine, status: int, kind: type[Exception]
) -> None:
    error = refusal(status, json.dumps(BODIES[engine]).encode(), 1_000)
    assert isinstance(error, kind)
    assert "SECRET" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 1000 tokens. However, you requested 1001 tokens",
        "The input (1001 tokens) is longer than the model's context length (1000 tokens).",
        "the request exceeds the available context size (exceed_context_size_error)",
    ],
)
def test_a_prompt_that_is_too_long_in_each_engines_words(text: str) -> None:
    assert isinstance(refusal(400, text.encode(), 1_000), ContextTooLong)


def test_only_sglang_has_to_be_told_to_stop() -> None:
    assert [engine for engine in Engine if dialect(engine).abortable] == [Engine.SGLANG]
    assert rid_of(dialect(Engine.VLLM), REQUEST_ID) is None


def test_no_id_of_sglangs_begins_with_another() -> None:
    """It aborts all whose ids begin with the one that it is told."""
    rids = [rid_of(dialect(Engine.SGLANG), REQUEST_ID) for _ in range(100)]
    assert len({len(rid or "") for rid in rids}) == 1
    assert len(set(rids)) == 100


def test_the_id_to_abort_by_is_in_the_body() -> None:
    settings = worker(Engine.SGLANG)
    body = orjson.loads(worker_body(dialect_of(settings), settings, "m", {}, "req_1-0"))
    assert body["rid"] == "req_1-0"
    assert "rid" not in orjson.loads(worker_body(dialect_of(settings), settings, "m", {}))


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        ("stop", Finish(0, "stop")),
        ("repetition", Finish(0, "length")),  # vLLM's alone
        ("abort", StreamFailed("the engine aborted the request", "abort")),  # vLLM, SGLang
        ("something new", Finish(0, "length")),
    ],
)
def test_every_finish_reason_is_one_of_openais(reason: str, event: Event) -> None:
    assert events(choices=choice(finish_reason=reason)) == [event]


@pytest.mark.parametrize("engine", Engine)
def test_the_cap_has_the_name_that_every_engine_knows(engine: Engine) -> None:
    settings = worker(engine)
    body = orjson.loads(worker_body(dialect_of(settings), settings, "m", {"max_tokens": 9}))
    assert body["max_tokens"] == 9
    assert "max_completion_tokens" not in body


@pytest.mark.parametrize(
    "pieces",
    [
        ["", '{"ci', 'ty": "Os', 'lo"}'],  # vLLM, as they come
        ["", '{"city": "Oslo"', "}"],  # SGLang, a parameter at a time
        ['{"city": "Oslo"}'],  # Transformers, the whole call
    ],
)
def test_arguments_in_any_pieces(pieces: list[str]) -> None:
    calls = [
        event
        for index, piece in enumerate(pieces)
        for event in events(
            choices=choice(
                {
                    "tool_calls": [
                        {
                            "index": 0,
                            "id": "call_1" if index == 0 else None,
                            "function": {
                                "name": "get_weather" if index == 0 else None,
                                "arguments": piece,
                            },
                        }
                    ]
                }
            )
        )
    ]
    assert all(isinstance(call, ToolCallDelta) for call in calls)
    assert "".join(call.arguments for call in calls if isinstance(call, ToolCallDelta)) == (
        '{"city": "Oslo"}'
    )
    assert [call.name for call in calls if isinstance(call, ToolCallDelta) and call.name] == [
        "get_weather"
    ]


def test_who_has_a_prefix_cache_health_and_metrics() -> None:
    assert [e for e in Engine if not dialect(e).caches_prefixes] == [Engine.TRANSFORMERS]
    without = [Engine.TRANSFORMERS, Engine.OPENAI]
    assert [e for e in Engine if not dialect(e).has_health] == without
    assert [e for e in Engine if not dialect(e).has_metrics] == without
