"""A request whose task the server cancels, at whatever it waits for, and again while it ends."""

import asyncio
import uuid
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from sqlalchemy import text

from app.api.completions import CompletionCall
from app.api.surface import CHAT as SURFACE
from app.gateway.pipeline import Gateway, complete
from tests.support.answers import Answer
from tests.support.conditions import eventually
from tests.support.gateway import CHAT, RunningGateway, chat_body
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 60.0  # only spent on failure
MOST_STEPS = 80  # a request waits some thirty times


class Cancelling:
    """Awaits a coroutine in the current task, and has that cancelled where the coroutine waits for
    the `at`-th time, and for the next as well if `twice`."""

    def __init__(self, inner: Coroutine[Any, Any, None], at: int, *, twice: bool) -> None:
        self._inner = inner
        self._at = {at, at + 1} if twice else {at}
        self._steps = 0

    @property
    def is_early(self) -> bool:
        """It was over before."""
        return self._steps < min(self._at)

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        waiting: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting = self._inner.send(None) if error is None else self._inner.throw(error)
            except StopIteration:
                return
            self._steps += 1
            if self._steps in self._at:
                asyncio.get_running_loop().call_soon(task.cancel)
            error = None
            try:
                yield waiting
            except BaseException as raised:  # noqa: BLE001 - handed on into the coroutine
                error = raised


def call_of(
    gateway: RunningGateway, request_id: str, *, stream: bool, key: str | None = None
) -> CompletionCall:
    """As the server would have it of a client that stays."""
    inner: Gateway = gateway.app.state.gateway
    received = [{"type": "http.request", "body": chat_body(stream=stream), "more_body": False}]

    async def receive() -> dict[str, Any]:
        if received:
            return received.pop()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing more comes")

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "app": gateway.app,
        "client": ("127.0.0.1", 1),
        "headers": [
            (b"authorization", f"Bearer {key or gateway.key}".encode()),
            (b"content-type", b"application/json"),
        ],
        "state": {"request_id": request_id},
    }
    return CompletionCall(scope, receive, send, SURFACE, inner)


async def recorded(gateway: RunningGateway, request_ids: list[str]) -> dict[str, list[int]]:
    """The kinds of events of each."""
    async with gateway.engine.connect() as connection:
        rows = await connection.execute(
            text(
                "SELECT request_id, kind FROM audit_events"
                " WHERE request_id = ANY(:ids) ORDER BY sequence"
            ),
            {"ids": request_ids},
        )
        kinds: dict[str, list[int]] = {}
        for request_id, kind in rows:
            kinds.setdefault(request_id, []).append(kind)
        return kinds


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("stream", [False, True], ids=["folded", "streamed"])
async def test_wherever_it_is_cancelled_a_request_has_one_end_and_is_settled(
    gateway: RunningGateway, worker: ScriptedWorker, stream: bool, twice: bool
) -> None:
    inner: Gateway = gateway.app.state.gateway
    worker.answers(Answer(["Hel", "lo", "."], pace_seconds=0.002))
    key = await gateway.issue_key(concurrency=1)  # one that is not settled bars the next
    ids: list[str] = []
    finished = False
    while not finished:
        assert len(ids) < MOST_STEPS, "it waits more often than that"
        ids.append(f"req_{uuid.uuid4().hex}")
        call = call_of(gateway, ids[-1], stream=stream, key=key)
        cancelling = Cancelling(complete(call, inner), len(ids), twice=twice)
        finished = await run(cancelling)
        await inner.endings.close(WITHIN_SECONDS)
    assert len(ids) > 5
    for request_id in ids:
        assert (await gateway.audited(request_id)).status != 429
    kinds = await recorded(gateway, ids)
    assert kinds == {request_id: [1, 2] for request_id in ids}
    assert inner.drain.in_flight == 0
    assert (await gateway.chat(key=key)).status == 200


async def run(cancelling: Cancelling) -> bool:
    """Whether it came to its end before it was to be cancelled."""

    async def cancelled() -> None:
        await cancelling

    task = asyncio.get_running_loop().create_task(cancelled())
    await asyncio.wait([task], timeout=WITHIN_SECONDS)
    assert task.done()
    if task.cancelled():
        return False
    task.result()
    assert cancelling.is_early, "a cancellation was swallowed"
    return True


async def test_the_end_of_the_process_waits_for_the_ends_of_its_requests(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(["word "] * 1_000, pace_seconds=0.01))
    inner: Gateway = gateway.app.state.gateway
    call = call_of(gateway, f"req_{uuid.uuid4().hex}", stream=True)
    task = asyncio.get_running_loop().create_task(complete(call, inner))
    await worker.received()
    await eventually(lambda: worker.only.events_sent > 3, WITHIN_SECONDS, "it streams")
    task.cancel()
    # As the server does in a hurry: nobody waits for the task itself.
    await inner.endings.close(WITHIN_SECONDS)
    assert task.cancelled()
    row = await gateway.audited(call.caller.request_id)
    assert (row.outcome, row.content is not None) == ("drained", True)
