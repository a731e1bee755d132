"""Examinations, and what they found."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.doctor.finding import Finding
from app.doctor.visit import Visit
from app.settings import load_settings

CHECK_SECONDS = 20.0  # for a loaded machine; only spent on failure


def visit_of(home: Path, **settings: Any) -> Visit:
    return Visit(load_settings(home=home, **settings), time.time, seconds=CHECK_SECONDS)


def of(findings: Sequence[Finding], check: str) -> Finding:
    """The one finding of that check."""
    found = [finding for finding in findings if finding.check == check]
    assert len(found) == 1, findings
    return found[0]


def statuses(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.check: finding.status.value for finding in findings}
