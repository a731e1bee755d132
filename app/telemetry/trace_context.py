"""W3C Trace Context: who a request belongs to, as `traceparent` and `tracestate` say it. No I/O.

What comes in is read into values and written anew, so that nothing of a client's header is passed
on as it came. A header that is malformed is as none: the trace begins here.
"""

import re
import secrets
from typing import NamedTuple

# What has to be passed on at least, and what a tracing system may expect to be.
MAX_STATE_CHARACTERS = 512
MAX_STATE_MEMBERS = 32

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FORBIDDEN_VERSION = "ff"
_FIRST_VERSION = "00"
_SAMPLED = 1
_MEMBER = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceHeaders(NamedTuple):
    """As a client sent them: all of each name, in their order."""

    parents: list[str]
    states: list[str]


class Parent(NamedTuple):
    """The span of the caller's that a request belongs to."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str  # empty: none


def read_parent(headers: TraceHeaders) -> Parent | None:
    """None where there is none that can be used."""
    if len(headers.parents) != 1:
        return None
    match = _PARENT.fullmatch(headers.parents[0].strip(" \t"))
    if match is None or match[1] == _FORBIDDEN_VERSION:
        return None
    if match[1] == _FIRST_VERSION and match[5] is not None:
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    if not trace_id or not span_id:
        return None
    sampled = bool(int(match[4], 16) & _SAMPLED)
    return Parent(trace_id, span_id, sampled, _read_state(",".join(headers.states)))


def _read_state(text: str) -> str:
    """Whole, or nothing of it."""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    if len(members) > MAX_STATE_MEMBERS:
        return ""  # not looked at: whoever is not known yet may send ten thousand
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in matches if match is not None}
    state = ",".join(members)
    if len(keys) < len(members):
        return ""  # one that is none, or one of them twice
    return state if len(state) <= MAX_STATE_CHARACTERS else ""


def new_trace_id() -> int:
    return secrets.randbits(128) or 1  # 0 is no id


def new_span_id() -> int:
    return secrets.randbits(64) or 1


def trace_id_text(trace_id: int) -> str:
    return f"{trace_id:032x}"


def span_id_text(span_id: int) -> str:
    return f"{span_id:016x}"


def write_headers(trace_id: int, span_id: int, state: str, *, sampled: bool) -> dict[str, str]:
    """For who is asked next, below the span `span_id`."""
    flags = "01" if sampled else "00"
    headers = {"traceparent": f"00-{trace_id:032x}-{span_id:016x}-{flags}"}
    if state:
        headers["tracestate"] = state
    return headers
