"""What a check came to."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works; until something happens, or with less than there could be
    FAILED = "failed"  # a gateway does not start, takes no requests, or loses what it promises
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`found` is what is there, `advice` what to change; each is one line."""

    check: str
    status: Status
    found: str
    advice: str | None = None


def well(check: str, found: str) -> Finding:
    return Finding(check, Status.OK, found)


def warned(check: str, found: str, advice: str) -> Finding:
    return Finding(check, Status.WARNING, found, advice)


def failed(check: str, found: str, advice: str | None) -> Finding:
    return Finding(check, Status.FAILED, found, advice)


def skipped(check: str, found: str) -> Finding:
    return Finding(check, Status.SKIPPED, found)
