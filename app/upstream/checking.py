"""When a worker is checked (`check.py`): before its first request, and when it may be another one.

Checks run beside the probes, which go on. Whoever asks for them is told the verdicts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import structlog

from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.upstream.check import Outcome, Verdict, check
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Checked:
    """Of one worker: its running or last check, and what came of the ones before."""

    task: asyncio.Task[None] | None = None
    told: Verdict | None = None
    not_before: float = float("-inf")  # the loop's time: a failed check is not hurried


class Checks:
    def __init__(
        self,
        client: WorkerClient,
        settings: Settings,
        metrics: Metrics,
        decided: Callable[[Endpoint, Verdict], None],
    ) -> None:
        """`decided` is told each verdict on a worker that is still what it was when asked."""
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._decided = decided
        self._checked: WeakKeyDictionary[Endpoint, _Checked] = WeakKeyDictionary()

    def begin(self, endpoint: Endpoint) -> None:
        """Unless one runs, or has failed just now. Raises what a defect of ours made the last one
        raise."""
        checked = self._of(endpoint)
        last = checked.task
        if last is not None:
            if not last.done():
                return
            if not last.cancelled():
                last.result()
        loop = asyncio.get_running_loop()
        if loop.time() >= checked.not_before:
            checked.task = loop.create_task(self._check(endpoint, checked))

    def runs(self, endpoint: Endpoint) -> bool:
        task = self._of(endpoint).task
        return task is not None and not task.done()

    def give_up(self, endpoint: Endpoint) -> None:
        """It is gone, and may come back as another."""
        checked = self._of(endpoint)
        if checked.task is not None:
            checked.task.cancel()
        self.hurry(endpoint)

    def hurry(self, endpoint: Endpoint) -> None:
        """It is no longer the one that failed."""
        self._of(endpoint).not_before = float("-inf")

    async def wait(self, seconds: float) -> None:
        """For those that run now, at most so long."""
        if running := self._tasks():
            await asyncio.wait(running, timeout=seconds)

    async def close(self) -> None:
        """Gives up those that run."""
        running = self._tasks()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _check(self, endpoint: Endpoint, checked: _Checked) -> None:
        model, was_ready, generation = endpoint.model, endpoint.ready, endpoint.generation
        verdict = await check(endpoint, self._client, self._settings.worker_check_seconds)
        self._metrics.worker_checked(endpoint.name, verdict.outcome)
        if (endpoint.model, endpoint.ready, endpoint.generation) != (model, was_ready, generation):
            return  # another one, or lost meanwhile: the next probe begins anew
        if verdict.outcome is Outcome.FAILED:
            retry = self._settings.worker_check_retry_seconds
            checked.not_before = asyncio.get_running_loop().time() + retry
        self._tell(endpoint, checked, verdict)
        self._decided(endpoint, verdict)

    def _tell(self, endpoint: Endpoint, checked: _Checked, verdict: Verdict) -> None:
        """Once, however often it is asked; and loudly, as it is the operator who has to act."""
        if checked.told == verdict:
            return
        checked.told = verdict
        if verdict.outcome is Outcome.FAILED:
            log.error("worker_check_failed", worker=endpoint.name, reason=verdict.reason)
        elif verdict.outcome is Outcome.UNDECIDED:
            log.warning("worker_check_undecided", worker=endpoint.name, reason=verdict.reason)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [each.task for each in self._checked.values() if each.task is not None]

    def _of(self, endpoint: Endpoint) -> _Checked:
        checked = self._checked.get(endpoint)
        if checked is None:
            checked = self._checked[endpoint] = _Checked()
        return checked
