"""Structured logs on stdout: one line of JSON for each event, or a readable form for a person.

The standard library's loggers (uvicorn, SQLAlchemy, aiohttp, asyncio) come out in the same form. A
log call fails no request, writes no text of a request, and no credential: see log_values.py, and
line_masks.py behind it. `docs/logs.md` lists every event with its fields.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO

import structlog
from structlog.typing import EventDict, Processor

from app.protocol.events import Usage
from app.telemetry.line_masks import mask_line
from app.telemetry.lines import LineWriter, console_form, json_line
from app.telemetry.log_bounds import REQUEST, FloodBound, RequestSampling
from app.telemetry.log_values import closed_types, told_by_place

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

MAX_CLAIM_CHARACTERS = 128  # of what a client says about itself
MAX_RETRY_COUNT_DIGITS = 4  # SDKs send 0, 1, 2

log = structlog.get_logger()


def configure_logging(
    level: str,
    *,
    console: bool = False,
    stream: BinaryIO | None = None,
    sample_ratio: float = 1.0,
    slow_seconds: float = 30.0,
) -> None:
    """Sends every log of this process, from `level` up, to `stream` (stdout).

    `level` is debug, info, warning or error. `console` is the form for a person, coloured where
    the stream is a terminal. `sample_ratio` and `slow_seconds`: see RequestSampling.
    """
    stream = sys.stdout.buffer if stream is None else stream
    writer = LineWriter(stream)
    last = console_form(colors=stream.isatty()) if console else (json_line,)

    def tell(event: EventDict) -> None:
        writer.msg(_line(event, last))

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            RequestSampling(sample_ratio, slow_seconds),
            FloodBound(tell),
            told_by_place,
            closed_types,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: writer,
        # Kept, they would save half a microsecond and not notice a second configuration.
        cache_logger_on_first_use=False,
    )
    _adopt_standard_library(LEVELS[level])
    _adopt_last_words()


def log_request(
    *,
    request_id: str,
    method: str,
    route: str,
    status: int,
    outcome: str,
    duration_seconds: float,
    trace_id: str | None = None,
    span_id: str | None = None,
    error_type: str | None = None,
    error_code: str | None = None,
    model: str | None = None,
    stream: bool | None = None,
    tenant: str | None = None,
    key_id: str | None = None,
    worker: str | None = None,
    attempts: int = 0,
    usage: Usage | None = None,
    finish_reason: str | None = None,
    queue_seconds: float | None = None,
    time_to_first_token_seconds: float | None = None,
    overhead_seconds: float | None = None,
    client_retry_count: str | None = None,
    user_agent: str | None = None,
) -> None:
    """The line of one request, whatever became of it. What is None is left out.

    Times are written in milliseconds; `queue_seconds` were spent in waiting for a worker.
    `client_retry_count` and `user_agent` are as the client sent them.
    """
    fields: dict[str, object] = {
        "request_id": request_id,
        "trace_id": trace_id,
        "span_id": span_id,
        "method": method,
        "route": route,
        "status": status,
        "outcome": outcome,
        "error_type": error_type,
        "error_code": error_code,
        "model": _claim(model),
        "stream": stream,
        "tenant": tenant,
        "key_id": key_id,
        "worker": worker,
        "attempts": attempts,
        "finish_reason": finish_reason,
        "queue_ms": _milliseconds(queue_seconds),
        "ttft_ms": _milliseconds(time_to_first_token_seconds),
        "overhead_ms": _milliseconds(overhead_seconds),
        "duration_ms": _milliseconds(duration_seconds),
        "client_retry_count": _retry_count(client_retry_count),
        "user_agent": _claim(user_agent),
    }
    if usage is not None:
        fields["prompt_tokens"] = usage.prompt_tokens
        fields["completion_tokens"] = usage.completion_tokens
        fields["reasoning_tokens"] = usage.reasoning_tokens
        fields["cached_tokens"] = usage.cached_tokens
    write = log.warning if status >= 500 else log.info
    write(REQUEST, **{name: value for name, value in fields.items() if value is not None})


class _StandardLibraryHandler(logging.Handler):
    """Passes a record of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the format
            message = str(record.msg)
        if record.name == "asyncio":
            # The lines behind the first show tasks and handles, and in them what exceptions say.
            message = message.partition("\n")[0]
        log.log(level, message, logger=record.name, exc_info=record.exc_info)


def _adopt_standard_library(level: int) -> None:
    """Libraries report from warnings up: SQLAlchemy's INFO shows the parameters of statements."""
    logging.root.handlers[:] = [_StandardLibraryHandler()]
    logging.root.setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers.clear()
        server.propagate = True
        server.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True  # ours says more
    logging.getLogger("slowapi").disabled = True  # a line for each refusal, to whoever knocks


def _adopt_last_words() -> None:
    """What ends a process or a thread is told as any other failure is: by its place. Python's own
    words on stderr would quote what the exception quotes."""
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def _crashed(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("process_crashed", exc_info=(kind, error, traceback))


def _thread_crashed(arguments: threading.ExceptHookArgs) -> None:
    if isinstance(arguments.exc_value, SystemExit):
        return  # how a thread ends itself
    name = None if arguments.thread is None else arguments.thread.name
    log.critical("thread_crashed", thread=name, exc_info=arguments.exc_value)


def _line(event: EventDict, last: Sequence[Processor]) -> bytes:
    value: EventDict | bytes = event
    for processor in last:
        value = processor(None, "", value)  # type: ignore[arg-type,assignment]  # the last one's is bytes
    assert isinstance(value, bytes)  # noqa: S101 - json_line and console_line give bytes
    return value


def _claim(claimed: str | None) -> str | None:
    """What a client says. Masked before it is cut: half a secret is not known by its value."""
    if not claimed:
        return claimed
    if len(claimed) > MAX_CLAIM_CHARACTERS:
        claimed = mask_line(claimed.encode(errors="replace")).decode(errors="replace")
    return claimed[:MAX_CLAIM_CHARACTERS]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _retry_count(claimed: str | None) -> int | None:
    if claimed is None or len(claimed) > MAX_RETRY_COUNT_DIGITS:
        return None
    return int(claimed) if claimed.isascii() and claimed.isdigit() else None
