"""From a log event to the bytes of a line that cannot be broken by what it says."""

import json
import re
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.telemetry.line_masks import mask_line

# What JSON leaves as it is, and what a terminal, a log viewer or a line splitter obeys: DEL, the C1
# controls, invisible characters, line separators, and what reverses the direction of text.
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_CONTROLS = re.compile("[\x00-\x1f\ud800-\udfff]|" + _OBEYED.pattern)
_CONTROLS_IN_TRACEBACK = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]|" + _OBEYED.pattern)


class LineWriter:
    """What structlog calls a logger: it puts finished lines out, each in one write, so that the
    lines of several processes on one pipe stay whole. Nothing leaves that was not masked.

    A closed pipe or a full disk loses lines; it fails no request.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def msg(self, line: bytes) -> None:
        try:
            self._stream.write(mask_line(line))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass

    debug = info = warning = error = critical = fatal = msg


def json_line(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    """The last processor: one line of JSON, its time in UTC with milliseconds."""
    ordered = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "level": event.pop("level", None),
        "event": event.pop("event", None),
        **event,
    }
    try:
        line = orjson.dumps(ordered, default=repr, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        text = json.dumps(ordered, default=repr, ensure_ascii=False)
        line = text.encode(errors="replace") + b"\n"
    if line.isascii() and b"\x7f" not in line:
        return line
    # Outside of its strings JSON is ASCII, so this replaces only inside of them.
    return _OBEYED.sub(_escape, line.decode()).encode()


def console_safe(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escapes what a terminal would obey, in every text but the structure of a traceback."""
    for name, value in event.items():
        if isinstance(value, str):
            pattern = _CONTROLS_IN_TRACEBACK if name == "exception" else _CONTROLS
            event[name] = pattern.sub(_escape, value)
    return event


def console_line(_: WrappedLogger, __: str, text: Any) -> bytes:
    """The last processor of the console form, after the renderer."""
    return str(text).encode(errors="replace") + b"\n"


def console_form(*, colors: bool) -> tuple[Processor, ...]:
    """The last processors of the form for a person."""
    return (
        structlog.processors.TimeStamper("%H:%M:%S", utc=False),
        console_safe,
        structlog.dev.ConsoleRenderer(
            colors=colors,
            sort_keys=False,
            pad_event_to=20,
            # The default prints local variables, prompts and secrets among them.
            exception_formatter=structlog.dev.plain_traceback,
        ),
        console_line,
    )


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
