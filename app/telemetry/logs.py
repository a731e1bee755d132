"""Structured logs on stdout: one line of JSON for each event, or a readable form for a person.

The standard library's loggers (uvicorn, SQLAlchemy, aiohttp, asyncio) come out in the same form. A
log call fails no request, writes no text of a request, and no credential.
"""

import logging
import sys
from typing import BinaryIO

import structlog
from structlog.typing import Processor

from app.protocol.events import Usage
from app.telemetry.lines import LineWriter, console_line, console_safe, json_line

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

MAX_CLAIM_CHARACTERS = 128  # of what a client says about itself
MAX_RETRY_COUNT_DIGITS = 4  # SDKs send 0, 1, 2

log = structlog.get_logger()


def configure_logging(level: str, *, console: bool = False, stream: BinaryIO | None = None) -> None:
    """Sends every log of this process, from `level` up, to `stream` (stdout).

    `level` is debug, info, warning or error. `console` is the form for a person, coloured where
    the stream is a terminal.
    """
    stream = sys.stdout.buffer if stream is None else stream
    writer = LineWriter(stream)
    last = _console_form(colors=stream.isatty()) if console else (json_line,)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: writer,
        # Kept, they would save half a microsecond and not notice a second configuration.
        cache_logger_on_first_use=False,
    )
    _adopt_standard_library(LEVELS[level])


def log_request(
    *,
    request_id: str,
    method: str,
    route: str,
    status: int,
    outcome: str,
    duration_seconds: float,
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
    time_to_first_token_seconds: float | None = None,
    overhead_seconds: float | None = None,
    client_retry_count: str | None = None,
    user_agent: str | None = None,
) -> None:
    """The line of one request, whatever became of it. What is None is left out.

    Times are written in milliseconds. `client_retry_count` and `user_agent` are as the client sent
    them.
    """
    fields: dict[str, object] = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "outcome": outcome,
        "error_type": error_type,
        "error_code": error_code,
        "model": model and model[:MAX_CLAIM_CHARACTERS],
        "stream": stream,
        "tenant": tenant,
        "key_id": key_id,
        "worker": worker,
        "attempts": attempts,
        "finish_reason": finish_reason,
        "ttft_ms": _milliseconds(time_to_first_token_seconds),
        "overhead_ms": _milliseconds(overhead_seconds),
        "duration_ms": _milliseconds(duration_seconds),
        "client_retry_count": _retry_count(client_retry_count),
        "user_agent": user_agent and user_agent[:MAX_CLAIM_CHARACTERS],
    }
    if usage is not None:
        fields["prompt_tokens"] = usage.prompt_tokens
        fields["completion_tokens"] = usage.completion_tokens
        fields["reasoning_tokens"] = usage.reasoning_tokens
        fields["cached_tokens"] = usage.cached_tokens
    write = log.warning if status >= 500 else log.info
    write("request", **{name: value for name, value in fields.items() if value is not None})


class _StandardLibraryHandler(logging.Handler):
    """Passes a record of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the format
            message = str(record.msg)
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


def _console_form(*, colors: bool) -> tuple[Processor, ...]:
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


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _retry_count(claimed: str | None) -> int | None:
    if claimed is None or len(claimed) > MAX_RETRY_COUNT_DIGITS:
        return None
    return int(claimed) if claimed.isascii() and claimed.isdigit() else None
