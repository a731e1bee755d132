"""What the gateway writes to its log."""

from pydantic import Field, field_validator

from app.settings.forms import Theme

LEVELS = ("debug", "info", "warning", "error")


class LogSettings(Theme):
    """Logs"""

    log_level: str = "info"
    """The least that is written: `debug`, `info`, `warning` or `error`. A line for each request
    is `info`."""

    log_sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Of requests that went well, the share that gets a line, chosen by their ids; such a line says
    the ratio. Errors, slow requests and the first hundred of a process always get theirs. The audit
    log has all of them, whatever this is."""

    log_slow_seconds: float = Field(default=30.0, gt=0)
    """From when on a request is slow, and gets its line: without a first token for so long. One
    H100 reads some 200,000 tokens in that time."""

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.lower()
        if level not in LEVELS:
            raise ValueError("must be debug, info, warning or error")
        return level
