"""What a command logs, and how it crashes: on standard error."""

import sys

import pytest
import structlog

from app.telemetry.command_logs import configure_command_logging


def test_a_command_logs_to_standard_error_in_a_form_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_command_logging()
    log = structlog.get_logger()
    log.info("quiet")
    log.warning("audit_spool_hangs", reason="at redis://:s3cret@h/0")
    said = capsys.readouterr()
    assert said.out == ""
    assert "audit_spool_hangs" in said.err
    assert "redis://***@h/0" in said.err
    assert "quiet" not in said.err


def test_a_command_that_crashes_says_why_but_for_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_command_logging()
    try:
        raise ValueError("no answer of postgresql://u:s3cret@h/x")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith("ValueError: no answer of postgresql://***@h/x\n")
