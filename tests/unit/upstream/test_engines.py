"""What each engine is asked: from fields that we name, in its own words."""

from typing import Any

import orjson
import pytest

from app.settings import Engine, WorkerSettings
from app.upstream.engines import dialect_of, unsupported, worker_body

FIELDS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "cache_salt": "salt",
    "max_tokens": 9,
}


def ask(engine: Engine = Engine.VLLM, fields: Any = FIELDS, **settings: Any) -> dict[str, Any]:
    worker = WorkerSettings.model_validate({"url": "http://w:1", "engine": engine} | settings)
    body = orjson.loads(worker_body(dialect_of(worker), worker, "served", fields))
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize("engine", Engine)
def test_every_worker_is_asked_to_stream_its_own_model(engine: Engine) -> None:
    body = ask(engine)
    assert body["stream"] is True
    assert body["model"] == "served"
    assert body["messages"] == FIELDS["messages"]
    assert body["max_tokens"] == 9


@pytest.mark.parametrize("engine", [Engine.VLLM, Engine.SGLANG, Engine.LLAMACPP, Engine.OPENAI])
def test_usage_is_always_asked_for(engine: Engine) -> None:
    assert ask(engine)["stream_options"]["include_usage"] is True


def test_the_model_cards_sampling_is_used_where_the_client_says_nothing() -> None:
    body = ask(fields=FIELDS | {"top_p": 0.5})
    sampling = {"temperature": 0.6, "top_p": 0.5, "top_k": 20, "repetition_penalty": 1.05}
    assert {name: body[name] for name in sampling} == sampling


def test_a_workers_defaults_come_before_the_cards_and_after_the_clients() -> None:
    body = ask(
        fields=FIELDS | {"top_p": 0.5},
        body_defaults={"temperature": 0.1, "top_p": 0.2},
        body_overrides={"max_tokens": 3},
    )
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.1, 0.5, 3)


def test_a_tenants_salt_is_sent_where_it_is_known() -> None:
    assert ask(Engine.VLLM)["cache_salt"] == "salt"
    for engine in (Engine.LLAMACPP, Engine.OPENAI, Engine.TRANSFORMERS):
        assert "cache_salt" not in ask(engine)


def test_stop_sequences_are_never_sent() -> None:
    # They would match inside the hidden thought. Usage has to come with every chunk instead.
    body = ask(fields=FIELDS | {"stop": ("x",)})
    assert "stop" not in body
    assert body["stream_options"]["continuous_usage_stats"] is True


def test_llama_cpp_has_its_own_name_for_the_repetition_penalty() -> None:
    body = ask(Engine.LLAMACPP)
    assert body["repeat_penalty"] == 1.05
    assert "repetition_penalty" not in body


def test_transformers_refuses_what_it_does_not_know_so_it_is_not_sent() -> None:
    body = ask(Engine.TRANSFORMERS, fields=FIELDS | {"min_p": 0.1})
    assert not {"top_k", "min_p", "repetition_penalty", "stream_options"} & body.keys()


@pytest.mark.parametrize(
    ("fields", "settings", "param"),
    [
        ({"n": 2}, {"engine": Engine.LLAMACPP}, "n"),
        ({"n": 2}, {"engine": Engine.TRANSFORMERS}, "n"),
        (
            {"response_format": {"type": "json_object"}},
            {"engine": Engine.LLAMACPP, "body_overrides": {"grammar": "g"}},
            "response_format",
        ),
        (
            {"tools": [{}], "tool_choice": "required"},
            {"engine": Engine.LLAMACPP, "body_overrides": {"grammar": "g"}},
            "tool_choice",
        ),
        # A grammar would begin within the thought, and nothing would come of it.
        ({"response_format": {"type": "json_object"}}, {"separation": "inline"}, "response_format"),
        ({"tools": [{}], "tool_choice": "required"}, {"separation": "inline"}, "tool_choice"),
        # It ignores the choice of a tool.
        (
            {"tools": [{}], "tool_choice": "required"},
            {"engine": Engine.TRANSFORMERS},
            "tool_choice",
        ),
        ({"continue_final_message": True}, {"engine": Engine.LLAMACPP}, "continue_final_message"),
    ],
)
def test_what_a_worker_cannot_do_is_named(
    fields: dict[str, Any], settings: dict[str, Any], param: str
) -> None:
    worker = WorkerSettings.model_validate({"url": "http://w:1"} | settings)
    assert unsupported(dialect_of(worker), FIELDS | fields) == param


def test_an_engine_with_its_parsers_takes_all_of_it() -> None:
    everything = {
        "n": 2,
        "response_format": {"type": "json_object"},
        "tools": [{}],
        "tool_choice": "required",
        "continue_final_message": True,
    }
    worker = WorkerSettings.model_validate({"url": "http://w:1"})
    assert unsupported(dialect_of(worker), FIELDS | everything) is None


@pytest.mark.parametrize(
    ("engine", "separation", "kept"),
    [
        (Engine.VLLM, "parser", True),
        (Engine.VLLM, "inline", False),  # it answers 400 without a reasoning parser
        (Engine.SGLANG, "parser", False),
        (Engine.LLAMACPP, "inline", False),
    ],
)
def test_a_thinking_quota_goes_only_where_it_is_known(
    engine: Engine, separation: str, kept: bool
) -> None:
    body = ask(engine, FIELDS | {"thinking_token_budget": 64}, separation=separation)
    assert ("thinking_token_budget" in body) is kept
