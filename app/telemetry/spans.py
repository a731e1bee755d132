"""What a trace is made of: spans that have ended, and where they go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Attribute = str | bool | int | float | Sequence[str]
Link = tuple[int, int]  # a trace, and a span of it


class SpanKind(StrEnum):
    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Span:
    """One that has ended. Times are nanoseconds since the epoch; `error` is a code, None where it
    did not fail."""

    name: str
    kind: SpanKind
    trace_id: int
    span_id: int
    parent_id: int | None
    remote_parent: bool
    state: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    error: str | None = None
    links: tuple[Link, ...] = ()  # to other requests


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the span of a whole request says at its end. `failed`: by a fault of ours or of a
    worker's."""

    name: str
    attributes: Mapping[str, Attribute]
    error: str | None
    failed: bool


class SpanSink(Protocol):
    def offer(self, spans: Sequence[Span]) -> None:
        """Takes them or drops them; does not wait."""
