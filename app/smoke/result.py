"""What a step came to."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works; a model too small, or a convenience that is missing
    FAILED = "failed"  # the walk ends here
    SKIPPED = "skipped"


Figures = Mapping[str, int | float | str | bool | None]


@dataclass(frozen=True, slots=True)
class Result:
    """`detail` is for people, `advice` what to change; `figures` is what was measured, by names
    with their units."""

    step: str
    status: Status
    detail: str
    advice: str | None = None
    figures: Figures | None = None


def well(step: str, detail: str, figures: Figures | None = None) -> Result:
    return Result(step, Status.OK, detail, None, figures)


def warned(step: str, detail: str, advice: str | None, figures: Figures | None = None) -> Result:
    return Result(step, Status.WARNING, detail, advice, figures)


def failed(step: str, detail: str, advice: str | None, figures: Figures | None = None) -> Result:
    return Result(step, Status.FAILED, detail, advice, figures)


class CannotStart(Exception):
    """There is nothing to walk through; the text is one line that says what to change."""
