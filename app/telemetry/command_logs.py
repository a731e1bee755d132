"""The logs of a command: on stderr, for a person, as stdout holds what was asked for.

Only what the application itself logs, from warnings up; a crash keeps Python's form.
"""

import logging
import sys
import traceback
from types import TracebackType

import structlog

from app.telemetry.line_masks import mask_line
from app.telemetry.lines import LineWriter, console_form
from app.telemetry.log_values import closed_types, told_by_place


def configure_command_logging() -> None:
    """For a command that answers and ends; servers configure their own."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            told_by_place,
            closed_types,
            *console_form(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        # As it is when something is logged: tests put other streams there.
        logger_factory=lambda *_: LineWriter(sys.stderr.buffer),
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _crashed


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """With its words, which whoever runs a command needs, but for the secrets in them."""
    words = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(mask_line(words.encode(errors="replace")).decode(errors="replace"))
