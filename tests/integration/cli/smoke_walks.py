"""`gateway smoke` in this process, what it found, and answers that spoil a walk."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from click.testing import CliRunner, Result

from app.cli import main
from tests.support.answers import Answer, Refusal, Reply
from tests.support.reading_worker import Spoil

SHORT = ("--from", "1k", "--max-context", "4k", "--seed", "tests")
CLOSED_SECONDS = 60.0  # only spent on failure


async def smoke(*arguments: str, key: str | None = None) -> Result:
    environment = {} if key is None else {"GATEWAY_SMOKE_API_KEY": key}
    return await asyncio.to_thread(CliRunner().invoke, main, ["smoke", *arguments], env=environment)


async def steps(*arguments: str, key: str | None = None) -> list[dict[str, Any]]:
    """Of a walk to its end."""
    return walked(await smoke(*arguments, "--json", key=key))


def walked(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return all_steps(result)


def all_steps(result: Result) -> list[dict[str, Any]]:
    """A gateway in this process writes its log between them."""
    lines = (line for line in result.stdout.splitlines() if line.startswith("{"))
    return [json.loads(line) for line in lines]


def instead(question: str, **changes: Any) -> Spoil:
    """Of the answer to this question."""

    def spoil(asked: str, answer: Answer) -> Reply:
        return replace(answer, **changes) if asked == question else answer

    return spoil


def refuse(question: str, refusal: Refusal) -> Spoil:
    return lambda asked, answer: refusal if asked == question else answer
