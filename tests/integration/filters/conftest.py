"""Logs as production writes them, to be searched for what must not be in them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app.telemetry.logs import configure_logging


class Logged(io.BytesIO):
    @property
    def text(self) -> str:
        return self.getvalue().decode()

    def named(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """All that the process logs, from `debug` up. Ask for it before the gateway."""
    handlers, level = logging.root.handlers[:], logging.root.level
    access_disabled = logging.getLogger("uvicorn.access").disabled
    stream = Logged()
    configure_logging("debug", stream=stream)
    yield stream
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = access_disabled
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.NOTSET)
