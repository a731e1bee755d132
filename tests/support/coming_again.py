"""A client whose request may be one that is being answered already."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from app.gateway.running import Run, Running
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, Response, RunningGateway, chat_body

T = TypeVar("T")

JOIN_SECONDS = 20.0  # for a request to get so far; only spent on failure
RETRY = {"x-stainless-retry-count": "1"}


async def ask(
    gateway: RunningGateway, *, key: str | None = None, headers: dict[str, str] | None = None,
    **fields: Any,
) -> Response:  # fmt: skip
    return await gateway.request("POST", CHAT, body=chat_body(**fields), key=key, headers=headers)


def start(asking: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    return asyncio.get_running_loop().create_task(asking)


def running(gateway: RunningGateway) -> Running:
    runs: Running = gateway.app.state.gateway.running
    return runs


def only_run(gateway: RunningGateway) -> Run:
    (run,) = running(gateway)
    return run


async def joined(gateway: RunningGateway, followers: int = 1) -> None:
    """Once so many read along in the one run that there is."""
    run = only_run(gateway)
    await eventually(lambda: run.followers == followers, JOIN_SECONDS, "another one has joined")
