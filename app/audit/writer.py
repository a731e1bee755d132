"""Audit records into Postgres: a batch is one statement, whatever its size.

The records travel as two JSON documents, made straight from the dataclasses: the database takes
them apart, at a tenth of what it costs us to build a row of 28 values. The statement merges: intent
and outcome of a request become one row in whatever order and however often they arrive, so a batch
whose fate is unknown is simply written again.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit.records import AuditIntent, AuditOutcome

# What Postgres takes in no text: NUL, and surrogates without their other half.
_REFUSED = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_ESCAPED_NUL = b"\\u0000"
_INT64 = 2**63

# SQLSTATE classes that say that the data is at fault, not the database: data exception, integrity
# constraint violation, and program limit exceeded.
_DATA_AT_FAULT = ("22", "23", "54")

Step = Callable[[AsyncConnection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records by request id. An id may be in both, or in one alone."""

    intents: Mapping[str, AuditIntent]
    outcomes: Mapping[str, AuditOutcome]


class BatchRefused(Exception):
    """Some record of the batch is not one that the table can hold. Nothing of it was written."""


async def write_batch(engine: AsyncEngine, batch: Batch, first: Step | None = None) -> None:
    """All of it or nothing. `first` is done before, in the same transaction: what it raises undoes
    it and is raised. Raises BatchRefused, or what the database's absence raises."""
    intents = _document([*batch.intents.values()])
    outcomes = _document([*batch.outcomes.values()])
    try:
        async with engine.begin() as connection:
            if first is not None:
                await first(connection)
            await connection.exec_driver_sql(_MERGE, (intents, outcomes))
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(_DATA_AT_FAULT):
            raise BatchRefused(f"SQLSTATE {state}") from error
        raise


def _document(values: Sequence[AuditIntent] | Sequence[AuditOutcome]) -> str:
    """A JSON array with nothing in it that Postgres refuses in text or `jsonb`."""
    try:
        document = orjson.dumps(values)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        document = _ESCAPED_NUL
    # An escaped backslash before "u0000" looks the same; then cleaning changes nothing.
    if _ESCAPED_NUL in document:
        cleaned = [_clean(asdict(value)) for value in values]
        try:
            document = orjson.dumps(cleaned, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:  # nested too deeply
            raise BatchRefused(str(error)) from error
    return document.decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _REFUSED.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return str(value)
    return value


# An outcome that comes before its intent makes a row whose route is empty and whose time is
# reckoned from its end; the intent then fills them in. Texts are cut to their columns' width.
_INSERT = """
INSERT INTO audit_records AS kept (
    request_id, received_at, route, key_id, tenant, model, stream, body_bytes, parameters,
    client_ip, user_agent, client_request_id,
    outcome, status, error_code, finish_reason, worker, attempts,
    prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, usage_exact,
    time_to_first_token_seconds, duration_seconds, findings, charged_tokens, settled_at
)
SELECT
    request_id,
    coalesce(to_timestamp(i.received_at), now() - make_interval(secs => o.duration_seconds)),
    coalesce(left(i.route, 64), ''), left(i.key_id, 32), left(i.tenant, 128), left(i.model, 256),
    i.stream, coalesce(i.body_bytes, 0), coalesce(i.parameters, '{}'),
    left(i.client_ip, 45), left(i.user_agent, 256), left(i.client_request_id, 128),
    left(o.outcome, 16), o.status, left(o.error_code, 64), left(o.finish_reason, 32),
    left(o.worker, 256), o.attempts,
    (o.usage->>'prompt_tokens')::bigint, (o.usage->>'completion_tokens')::bigint,
    (o.usage->>'reasoning_tokens')::bigint, (o.usage->>'cached_tokens')::bigint,
    (o.usage->>'exact')::boolean,
    o.time_to_first_token_seconds, o.duration_seconds, coalesce(o.findings, '{}'),
    o.charged_tokens, to_timestamp(o.settled_at)
FROM json_to_recordset($1::text::json) AS i (
    request_id text, received_at float8, route text, key_id text, tenant text, model text,
    stream boolean, body_bytes bigint, parameters jsonb, client_ip text, user_agent text,
    client_request_id text
)
FULL JOIN json_to_recordset($2::text::json) AS o (
    request_id text, outcome text, status integer, error_code text, finish_reason text,
    worker text, attempts integer, usage json, time_to_first_token_seconds float8,
    duration_seconds float8, findings jsonb, charged_tokens bigint, settled_at float8
) USING (request_id)
ON CONFLICT (request_id) DO UPDATE SET
"""

_OF_INTENT = (
    "received_at", "route", "key_id", "tenant", "model", "stream", "body_bytes", "parameters",
    "client_ip", "user_agent", "client_request_id",
)  # fmt: skip
_OF_OUTCOME = (
    "outcome", "status", "error_code", "finish_reason", "worker", "attempts", "prompt_tokens",
    "completion_tokens", "reasoning_tokens", "cached_tokens", "usage_exact",
    "time_to_first_token_seconds", "duration_seconds", "charged_tokens", "settled_at",
)  # fmt: skip

_MERGE = _INSERT + ",\n".join(
    [
        f"{name} = CASE WHEN excluded.route = '' THEN kept.{name} ELSE excluded.{name} END"
        for name in _OF_INTENT
    ]
    + [f"{name} = coalesce(excluded.{name}, kept.{name})" for name in _OF_OUTCOME]
    # Never null, so it cannot say itself whether an outcome came with it.
    + [
        "findings = CASE WHEN excluded.outcome IS NULL THEN kept.findings"
        " ELSE excluded.findings END"
    ]
)
