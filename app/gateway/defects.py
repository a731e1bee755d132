"""What a request ends in where the fault is ours."""

import traceback

import structlog

from app.errors import InternalError

log = structlog.get_logger()


def defect() -> InternalError:
    return InternalError("The gateway failed; it has been logged.")


def log_crash(request_id: str, error: Exception) -> None:
    """Where it was, without the exception's own words: they may quote what the request or its
    answer holds."""
    log.error(
        "request_crashed",
        request_id=request_id,
        error=type(error).__name__,
        traceback="".join(traceback.format_tb(error.__traceback__)),
    )
