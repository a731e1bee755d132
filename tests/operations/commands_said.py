"""Commands of `gateway` in this process, and what they say."""

import traceback
from collections.abc import Mapping, Sequence

import pytest
from click.testing import CliRunner

from app.cli import main
from tests.operations.canaries import Journal


def run_command(words: Sequence[str], environment: Mapping[str, str], journal: Journal) -> int:
    """The exit code; both outputs are kept as `command: words`, and what Python would print of an
    exception that nothing caught."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        result = CliRunner().invoke(main, list(words))
    said = result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        said += "".join(traceback.format_exception(result.exception))
    journal.note("command: " + " ".join(words[:3]), said)
    return result.exit_code
