"""What a client asks for in headers, because OpenAI's body has no field for it."""

import re
from collections.abc import Iterator

from starlette.datastructures import Headers

from app.errors import InvalidRequest
from app.telemetry.trace_context import TraceHeaders

MAX_COLD_PREFILL = "x-gateway-max-cold-prefill-tokens"
AFFINITY = "x-gateway-affinity"
PROGRESS = "x-gateway-progress"
# Which conversation it is, as agents say it by themselves: Claude Code, Codex and others.
SESSION_HEADERS = ("x-claude-code-session-id", "session_id", "session-id", "thread-id")
# How long the client waits: until it has read something, as OpenAI's Python SDK says it, or the
# whole answer, as the one for Node does where a request has a timeout of its own.
READ_TIMEOUTS = ("x-stainless-read-timeout", "x-stainless-timeout")

_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,18})?", re.ASCII)  # at most eleven days
# As an integer of a policy: 1 to 10**12, in plain digits.
_TOKENS = re.compile(r"[1-9][0-9]{0,11}|10{12}", re.ASCII)


def max_cold_prefill_tokens(headers: Headers) -> int | None:
    """None where it is not asked for. Raises InvalidRequest for what is no such number, or for two:
    one that was misread would start the very prefill that it should have prevented."""
    values = headers.getlist(MAX_COLD_PREFILL)
    if not values:
        return None
    if len(values) > 1 or not _TOKENS.fullmatch(values[0].strip(" \t")):
        raise InvalidRequest(
            f"Invalid value for '{MAX_COLD_PREFILL}': must be one positive integer.",
            param=MAX_COLD_PREFILL,
        )
    return int(values[0])


def affinity_hint(headers: Headers, prompt_cache_key: str | None) -> str | None:
    """What the client calls its conversation: by our own header, in the body, or as agents do. It
    is only a hint, so that nothing in it is refused; None where there is none."""
    return headers.get(AFFINITY) or prompt_cache_key or next(_sessions(headers), None)


def wants_progress(headers: Headers) -> bool:
    return headers.get(PROGRESS, "").strip().lower() == "true"


def read_timeout_seconds(headers: Headers) -> float | None:
    """The shortest that it says; None where it says none. It is the SDK that says it, so that what
    is no number is refused to nobody."""
    values = (headers.get(name, "").strip() for name in READ_TIMEOUTS)
    seconds = [float(value) for value in values if _SECONDS.fullmatch(value)]
    return min((value for value in seconds if value > 0), default=None)


def trace_headers(headers: Headers) -> TraceHeaders:
    return TraceHeaders(headers.getlist("traceparent"), headers.getlist("tracestate"))


def _sessions(headers: Headers) -> Iterator[str]:
    return (value for name in SESSION_HEADERS if (value := headers.get(name)))
