"""`gateway keys` in this process."""

import json
from collections.abc import Callable
from typing import Any

import click
from click.testing import CliRunner, Result

PEPPER = "pepper of the tests"

Run = Callable[..., Result]


def invoke(command: click.Command, *arguments: str) -> Result:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def created(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("create", "--json", *arguments)
    assert result.exit_code == 0, result.output
    key: dict[str, Any] = json.loads(result.stdout)
    return key
