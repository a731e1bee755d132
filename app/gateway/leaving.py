"""What becomes of a request whose client is gone: cheap work is given up at once. A prefill that
has cost much goes on for a while, where the key has it so, for the same request coming back.

The record is written when the work ends, and says that the client left and what was made.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from app.errors import GatewayError
from app.gateway.interruption import Interruption
from app.gateway.meter import Meter
from app.gateway.running import Run
from app.settings import Settings
from app.telemetry.pool_metrics import PoolMetrics


class Work(NamedTuple):
    """A running request. `draining`: nobody can come back any more; `tell` ends what its client
    sees."""

    meter: Meter
    interruption: Interruption
    settings: Settings
    metrics: PoolMetrics
    draining: Callable[[], bool]
    tell: Callable[[GatewayError], object]


class Leaving:
    """Implements Keeper."""

    def __init__(self, run: Run, work: Work) -> None:
        principal = work.meter.principal
        policy = None if principal is None else principal.policy
        self._policy_seconds = (policy and policy.finish_after_leaving_seconds) or 0
        self._run = run
        self._work: Work | None = work  # until it has ended: it holds the whole request
        self._left: GatewayError | None = None
        self._timer: asyncio.TimerHandle | None = None
        run.keeper = self

    # -- its own client

    def goes_on(self) -> bool:
        """Whether the work would go on if its client left now."""
        return self._run.followers > 0 or self._grace_seconds() > 0

    def left(self, error: GatewayError) -> None:
        """Its client is gone, or waits no longer: `error` is what it is told, and what the record
        says of it. The first reason counts."""
        work = self._work
        if self._run.client_gone or work is None:
            return
        goes_on = self.goes_on()
        self._run.client_left()
        self._left = error
        work.metrics.client_left(went_on=goes_on)
        if not goes_on:
            self._give_up(error)
            return
        work.meter.left = error
        work.tell(error)
        if not self._run.followers:
            self._wait(self._grace_seconds())

    # -- those that read along

    def joined(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandoned(self) -> None:
        seconds = 0.0 if self._run.taken else self._grace_seconds()
        if seconds:
            self._wait(seconds)
        else:
            self.lost()

    def lost(self) -> None:
        self.joined()
        if self._left is not None:
            self._give_up(self._left)

    def outlives_a_follower(self) -> bool:
        run = self._run
        return not run.client_gone or run.followers > 1 or self._grace_seconds() > 0

    def ended(self) -> None:
        self._work = None

    # -- the grace

    def _grace_seconds(self) -> float:
        """0: there is none, or nothing that is worth it."""
        if not self._policy_seconds or not self._run.open:
            return 0.0
        work = self._work
        if work is None or (self._is_dear(work) and not work.draining()):
            return self._policy_seconds
        return 0.0

    def _is_dear(self, work: Work) -> bool:
        """Whether its prompt has cost a worker so much that it should not be read again."""
        waiting = work.meter.waiting
        turn = None if waiting is None else waiting.turn
        if turn is None:
            return False
        return turn.sunk_seconds >= work.settings.leave_min_prefill_seconds

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.lost)

    def _give_up(self, error: GatewayError) -> None:
        self._run.close()
        if self._work is None:
            self._run.forget()
        else:
            self._work.interruption.interrupt(error)
