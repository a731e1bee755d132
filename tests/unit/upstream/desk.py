"""A dispatcher with its workers, in a time that only the test moves."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from prometheus_client import CollectorRegistry

from app.errors import GatewayError
from app.settings.pool import PoolSettings
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.ask import Ask
from app.upstream.dispatcher import Dispatcher, Entrance
from app.upstream.least_loaded import LeastLoaded
from app.upstream.load import Report
from app.upstream.placement import Ranking
from app.upstream.pool import Pool
from app.upstream.turn import Turn
from tests.support.fake_time import run_in_fake_time
from tests.support.workers_asked import pool_of

Test = Callable[..., Coroutine[Any, Any, None]]


def in_fake_time(test: Test) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_in_fake_time(test(*arguments, **named))

    return run


class Waiting:
    """A request in a task of its own, until it is told to end."""

    def __init__(self, entrance: Entrance) -> None:
        self.entrance = entrance
        self.turn: Turn | None = None
        self.error: GatewayError | None = None
        self._over = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.entrance as turn:
                self.turn = turn
                await self._over.wait()
        except GatewayError as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return self.turn is None and self.error is None

    async def end(self) -> None:
        self._over.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


class Desk:
    def __init__(self, pool: Pool, settings: PoolSettings, ranking: Ranking | None = None) -> None:
        self.registry = CollectorRegistry()
        self.pool = pool
        self.came: list[Waiting] = []
        self.dispatcher = Dispatcher(
            pool,
            ranking or LeastLoaded(),
            settings,
            PoolMetrics(self.registry),
            clock=asyncio.get_running_loop().time,
        )
        for endpoint in pool.endpoints:
            endpoint.load.report(Report(asyncio.get_running_loop().time(), 1_000))

    async def comes(self, asked: Ask, **named: Any) -> Waiting:
        waiting = Waiting(self.dispatcher.turn(asked, **named))
        self.came.append(waiting)
        await settle()
        return waiting

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"gateway_{name}", labels) or 0.0


def desk_of(
    *workers: dict[str, Any] | None, ranking: Ranking | None = None, **settings: Any
) -> Desk:
    """Workers that hold 1,000 tokens each."""
    values = {"long_prefill_tokens": 100, "held_output_share": 1.0} | settings
    rules = PoolSettings(**values)
    return Desk(pool_of(*workers, settings=rules), rules, ranking)
