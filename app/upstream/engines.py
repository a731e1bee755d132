"""What each engine wants to be asked, and how.

A worker's request is built here, from fields that we name: the model card's sampling under the
worker's own defaults, under what the client set, under the worker's overrides.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from app.protocol.request import Json
from app.settings import Engine, Separation, WorkerSettings

# The model card's advice. Sampled cold (temperature 0.3 and below) this model loops.
SAMPLING_DEFAULTS: Json = {
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 20,
    "repetition_penalty": 1.05,
}


@dataclass(frozen=True)
class Dialect:
    """The differences between engines, as data."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    added: Json = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()  # refused there or without effect
    usage_in_chunks: bool = False  # `continuous_usage_stats`: usage survives our own stop
    chat_tokenize: bool = False  # `/tokenize` takes messages and tools
    template_tokenize: bool = False  # `/apply-template`, then `/tokenize`
    keeps_alive: bool = True  # its connections can be used again after a stream
    single_choice: bool = False
    continues: bool = False  # `continue_final_message`: it goes on with an answer begun
    grammar_bound: bool = False  # its grammar is ours: no response_format, no tools
    # vLLM without a tool parser answers 400 to tools that may be called; told that none may, it
    # shows them to the model all the same, and leaves the calls in the text.
    tools_as_text: bool = False
    ignores_choice: bool = False  # of a tool: it calls one or none as it likes
    thinking_quota: bool = False  # `thinking_token_budget`
    inline: bool = False  # the thought is in the text, so a grammar would begin within it
    # Closing the connection does not stop it: it has to be told, by the id that we gave it.
    abortable: bool = False
    has_health: bool = True  # `/health` says whether it lives
    has_metrics: bool = True  # `/metrics` may say how much it has
    caches_prefixes: bool = True


_ENGINE_EXTRAS = frozenset({"top_k", "min_p", "repetition_penalty"})
# `cache_salt` separates tenants in the prefix cache; only vLLM and SGLang know it.
_DIALECTS = {
    Engine.VLLM: Dialect(usage_in_chunks=True, chat_tokenize=True, continues=True),
    # `max_tokens` and all else as vLLM has it. What has `n` > 1 it runs under ids of its own, which
    # nobody can abort.
    Engine.SGLANG: Dialect(usage_in_chunks=True, continues=True, abortable=True),
    Engine.TRANSFORMERS: Dialect(
        dropped=_ENGINE_EXTRAS
        | {"cache_salt", "stream_options", "tool_choice", "parallel_tool_calls", "n"},
        single_choice=True,
        ignores_choice=True,
        has_health=False,  # its own says no more than its list of models
        has_metrics=False,
        caches_prefixes=False,
    ),
    Engine.LLAMACPP: Dialect(
        renamed={"repetition_penalty": "repeat_penalty"},
        # It notices that its client has left when it writes, so it has to write in prefill too.
        added={"return_progress": True},
        dropped=frozenset({"cache_salt"}),
        template_tokenize=True,
        keeps_alive=False,  # it promises to, and closes them
        single_choice=True,
    ),
    Engine.OPENAI: Dialect(
        dropped=_ENGINE_EXTRAS | {"cache_salt"}, has_health=False, has_metrics=False
    ),
}


def dialect_of(settings: WorkerSettings) -> Dialect:
    inline = settings.separation is Separation.INLINE and settings.thinks
    dialect = replace(
        _DIALECTS[settings.engine],
        inline=inline,
        # vLLM answers 400 to a quota where it has no reasoning parser.
        thinking_quota=settings.engine is Engine.VLLM and not inline,
    )
    if "grammar" in settings.body_overrides:
        return replace(
            dialect,
            dropped=dialect.dropped | {"tools", "tool_choice", "parallel_tool_calls"},
            grammar_bound=True,
        )
    return dialect


def rid_of(dialect: Dialect, request_id: str) -> str | None:
    """The id by which this try can be aborted; None where that is not needed. SGLang aborts all
    whose ids begin with it, so ours are all of one length."""
    return f"{request_id}-{secrets.token_hex(4)}" if dialect.abortable else None


def worker_body(
    dialect: Dialect,
    settings: WorkerSettings,
    model: str,
    fields: Json,
    rid: str | None = None,
) -> bytes:
    """The JSON that a worker is sent: always a stream, always with usage."""
    options: dict[str, Any] = {"include_usage": True}
    # Per choice, so that of several the sum would not be known.
    if dialect.usage_in_chunks and fields.get("stop") is not None and fields.get("n", 1) == 1:
        options["continuous_usage_stats"] = True
    body = {**SAMPLING_DEFAULTS, **settings.body_defaults, **fields}
    body.pop("stop", None)  # applied here, on what is visible
    for name in dialect.dropped:
        body.pop(name, None)
    if not dialect.thinking_quota:
        body.pop("thinking_token_budget", None)
    if dialect.tools_as_text and "tools" in body:
        body["tool_choice"] = "none"
    for ours, theirs in dialect.renamed.items():
        if ours in body:
            body.setdefault(theirs, body.pop(ours))
    body |= dialect.added
    body |= settings.body_overrides
    body |= {"model": model, "stream": True}
    if "stream_options" not in dialect.dropped:
        body["stream_options"] = options
    if rid is not None:
        body["rid"] = rid
    return orjson.dumps(body)


def unsupported(dialect: Dialect, fields: Json) -> str | None:
    """The first field that this worker cannot honour: better a refusal than an answer that ignores
    what was asked."""
    if dialect.single_choice and fields.get("n", 1) > 1:
        return "n"
    if (dialect.inline or dialect.grammar_bound) and "response_format" in fields:
        return "response_format"
    forced = fields.get("tool_choice", "auto") not in ("auto", "none")
    free = dialect.inline or dialect.ignores_choice or dialect.tools_as_text
    if forced and (free or dialect.grammar_bound):
        return "tool_choice"
    if fields.get("continue_final_message") and not dialect.continues:
        return "continue_final_message"
    return None
