"""What may stand in a log line: a closed set of types. Of all else only the type's name is written.

So a secret (pydantic's SecretStr, a pepper in bytes), a request, a header list or an exception
cannot be logged by mistake; and an exception is told by its type and its place, never in its own
words, which may quote what a request or its answer holds, or a driver's URL.
"""

import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from structlog.typing import EventDict, WrappedLogger

from app.telemetry.line_masks import mask_line

MAX_TEXT_CHARACTERS = 16_384  # a traceback of 100 frames; log collectors cut lines at 64 KiB or so
MAX_DEPTH = 8  # of lists and objects; the deepest that is logged is an audit record, with 5
MAX_EXCEPTIONS = 10  # of a chain and its groups

Value = object


def closed_types(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: every value as one that may be written."""
    for name, value in event.items():
        # By exact type, as nearly all are one of these and short.
        if type(value) is str:
            if len(value) > MAX_TEXT_CHARACTERS:
                event[name] = _cut(value)
        elif value is not None and type(value) not in (int, bool, float):
            event[name] = _written(value, 0)
    return event


def told_by_place(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor: `exc_info` becomes `exception`, the place of each exception of the chain."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exception()
    elif isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        event["exception"] = place_of(given)
    return event


def place_of(error: BaseException) -> str:
    """Tracebacks and types of the exception and of those that led to it, the first one first."""
    shown: list[str] = []
    for each in _chain(error):
        if len(shown) == MAX_EXCEPTIONS:
            break
        lines = traceback.format_tb(each.__traceback__)
        heading = "Traceback (most recent call last):\n" if lines else ""
        shown.append(heading + "".join(lines) + _name(each) + "\n")
    return "\n".join(reversed(shown)).rstrip("\n")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception first, then what it holds, then what led to it; each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        led_by = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting.append(led_by)
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))


def _name(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    if isinstance(error, OSError) and error.errno is not None:
        name += f" (errno {error.errno})"
    return name


def _written(value: Value, depth: int) -> Value:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _cut(str(value))
    if isinstance(value, PurePath):
        return _cut(str(value))
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        return {_key(name): _written(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        return [_written(inner, depth + 1) for inner in value]
    return f"<{type(value).__name__}>"


def _key(name: Value) -> str:
    return _cut(str(name)) if isinstance(name, str | int) else f"<{type(name).__name__}>"


def _cut(text: str) -> str:
    """Masked before it is cut: half a secret is not found by its value any more."""
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    masked = mask_line(text.encode(errors="replace")).decode(errors="replace")
    return masked[:MAX_TEXT_CHARACTERS] + f"... ({len(text)} characters)"
