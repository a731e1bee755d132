"""What a command answered."""

import json
from typing import Any

from click.testing import Result


def answered(result: Result) -> dict[str, Any]:
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def listed(result: Result) -> list[dict[str, Any]]:
    """The JSON of each line."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those fields of a policy that are set."""
    return {name: value for name, value in values.items() if value is not None}


def refused(result: Result) -> str:
    """The one line of a command that would not, without `error: `."""
    assert result.exit_code in (1, 2), result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("error: ")
