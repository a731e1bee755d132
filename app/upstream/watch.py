"""What the data path and the prober see of the workers' health, and what follows from it at once.

Whoever asks a worker has an `Attempt` and tells it what happens. The request itself decides nothing
here, and nothing here waits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import structlog

from app.settings import Engine, Settings
from app.telemetry.metrics import Metrics
from app.upstream.ejection import Ejections, Fault
from app.upstream.endpoint import Endpoint
from app.upstream.load import Report
from app.upstream.own_stall import RECOVERY_SECONDS, OwnStall
from app.upstream.pool import Pool
from app.upstream.standstill import Counts, StandStill
from app.upstream.telemetry import NOTHING_SAID, Telemetry
from app.upstream.timeouts import Timeout

log = structlog.get_logger()

# Of the longest silence of one stream, how long nothing else of its worker may have moved for the
# worker to be hung: counters are read every few seconds, so movement is noted later than it was.
STILL_SHARE = 0.8
# A worker's engine knows of a prompt once its server has made tokens of it: seconds, of a million.
# Until then it says, rightly, that nothing runs.
UNHEARD_SECONDS = 30.0


class Attempt:
    """One request to one worker. This one tells nobody: it is of a question of our own."""

    __slots__ = ("give_up", "given_up")

    def __init__(self) -> None:
        # Called when the worker is found hung before the answer has begun: the request shall go
        # elsewhere. Whoever has the request sets it.
        self.give_up: Callable[[], None] | None = None
        self.given_up = False

    def began(self) -> None:
        """The first token is there."""

    def moved(self) -> None:
        """More tokens are there."""

    def failed(self, fault: Fault) -> None:
        """It came to no good end, by the worker's fault. It is over."""

    def timed_out(self, kind: Timeout) -> None:
        """The worker took longer than it may. It is over."""

    def over(self) -> None:
        """It ended, or was given up, and that is not the worker's fault."""

    def postponed_seconds(self) -> float:
        """How much longer to wait, because it was us who did not listen; 0: no longer."""
        return 0.0


@dataclass(slots=True, eq=False)
class _Health:
    still: StandStill = field(default_factory=StandStill)
    telemetry: Telemetry = NOTHING_SAID
    unbegun: set["WatchedAttempt"] = field(default_factory=set)


class WatchedAttempt(Attempt):
    __slots__ = ("_endpoint", "_health", "_watch", "has_begun", "since")

    def __init__(self, watch: "Watch", endpoint: Endpoint, health: _Health) -> None:
        super().__init__()
        self._watch = watch
        self._endpoint = endpoint
        self._health = health
        self.has_begun = False
        self.since = watch.clock()
        health.unbegun.add(self)

    def began(self) -> None:
        self.has_begun = True
        self._health.unbegun.discard(self)
        self.moved()
        if self._endpoint.ejected_until is not None:
            self._watch.answered(self._endpoint)

    def moved(self) -> None:
        self._health.still.moved(self._watch.clock())

    def failed(self, fault: Fault) -> None:
        self._health.unbegun.discard(self)
        self._watch.failed(self._endpoint, fault)

    def timed_out(self, kind: Timeout) -> None:
        self._health.unbegun.discard(self)
        self._watch.timed_out(self._endpoint, kind)

    def over(self) -> None:
        self._health.unbegun.discard(self)
        if self.has_begun:
            self._watch.answered(self._endpoint)

    def postponed_seconds(self) -> float:
        stalled = self._watch.own_stall.lately(self._watch.clock())
        return RECOVERY_SECONDS if stalled else 0.0


class Watch:
    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.own_stall = OwnStall()
        self._pool = pool
        self._settings = settings
        self._metrics = metrics.pool
        self._ejections = Ejections(lambda: pool.endpoints, settings, clock, self._ejected)
        self._health: WeakKeyDictionary[Endpoint, _Health] = WeakKeyDictionary()

    # -- what requests tell

    def attempt(self, endpoint: Endpoint) -> Attempt:
        """Of a request that is being given to this worker."""
        return WatchedAttempt(self, endpoint, self._of(endpoint))

    def answered(self, endpoint: Endpoint) -> None:
        """It did what was asked of it."""
        self._of(endpoint).still.moved(self.clock())
        if self._ejections.answered(endpoint):
            log.info("worker_let_in", worker=endpoint.name)
            self._metrics.ejected(endpoint.name, ejected=False)
            self._pool.changed()

    def failed(self, endpoint: Endpoint, fault: Fault) -> None:
        if not self.own_stall.lately(self.clock()):
            self._ejections.failed(endpoint, fault)

    def timed_out(self, endpoint: Endpoint, kind: Timeout) -> None:
        self._metrics.timed_out(endpoint.name, kind)
        if self.own_stall.lately(self.clock()):
            return
        if kind is Timeout.FIRST_BYTE:
            self._ejections.failed(endpoint, Fault.FIRST_BYTE)
        elif kind is Timeout.BETWEEN_TOKENS:
            seconds = STILL_SHARE * self._settings.inter_token_seconds
            if self._of(endpoint).still.still(seconds, self.clock()):
                self.hung(endpoint, Fault.STANDSTILL)
            else:
                self._ejections.failed(endpoint, Fault.SILENCE)

    def aborted(self, worker: str, outcome: str) -> None:
        """An engine was told to stop one of its requests."""
        self._metrics.aborted(worker, outcome)

    # -- what probes tell

    def took(self, endpoint: Endpoint) -> None:
        """It was found fit for requests: a sign of life."""
        self._of(endpoint).still.moved(self.clock())

    def reported(self, endpoint: Endpoint, telemetry: Telemetry) -> None:
        """What it says of itself now."""
        health = self._of(endpoint)
        now = self.clock()
        health.telemetry = telemetry
        health.still.counted(_counts(telemetry), now)
        if not telemetry.says_anything:
            return
        self._judge(endpoint, health, now)
        endpoint.load.report(
            Report(
                now,
                telemetry.capacity_tokens,
                telemetry.running,
                telemetry.waiting,
                telemetry.kv_usage,
            )
        )
        self._metrics.reported(
            endpoint.name, telemetry.running, telemetry.waiting, telemetry.kv_usage
        )

    def _judge(self, endpoint: Endpoint, health: _Health, now: float) -> None:
        """It has something of ours, and nothing shows that it works on it."""
        telemetry = health.telemetry
        if telemetry.kv_usage is None or not endpoint.in_flight:
            return
        if not telemetry.running and not self._is_unheard_of(endpoint, health, now):
            return
        if self.own_stall.lately(now):
            return
        if endpoint.ejected_until is not None and not health.unbegun:
            return  # known, and nothing of ours is left to be saved
        if health.still.still(self._settings.inter_token_seconds, now):
            self.hung(endpoint, Fault.STANDSTILL)

    def _is_unheard_of(self, endpoint: Endpoint, health: _Health, now: float) -> bool:
        """Whether it says that nothing runs or waits, long after it was given something. vLLM
        counts both when a step is done: if it hangs in the first one, it says so for ever."""
        if endpoint.settings.engine is not Engine.VLLM or health.telemetry.waiting:
            return False
        seconds = max(self._settings.inter_token_seconds, UNHEARD_SECONDS)
        return any(now - attempt.since >= seconds for attempt in health.unbegun)

    def lost(self, endpoint: Endpoint) -> None:
        """It took requests, and a probe found it missing."""
        if not self.own_stall.lately(self.clock()):
            self._ejections.lost(endpoint)

    def relent(self) -> None:
        """After each round of probes."""
        if self._ejections.relent():
            log.warning("workers_tried_early")

    def probed(self, endpoint: Endpoint, *, alive: bool) -> None:
        """By a completion of our own."""
        if alive:
            self.answered(endpoint)
        elif not self.own_stall.lately(self.clock()):
            self._ejections.condemned(endpoint, Fault.PROBE)

    def hung(self, endpoint: Endpoint, fault: Fault) -> None:
        """Nothing more will come of what it was given: requests that have nothing yet go to others
        at once, where there are any."""
        self._ejections.condemned(endpoint, fault)
        now = self.clock()
        others = (each for each in self._pool.endpoints if each is not endpoint)
        if not any(each.takes_requests(now) for each in others):
            return
        for attempt in list(self._of(endpoint).unbegun):
            attempt.given_up = True
            if attempt.give_up is not None:
                attempt.give_up()

    # -- what the prober asks

    def moved_at(self, endpoint: Endpoint) -> float:
        """When it was last seen to work; minus infinity: never."""
        return self._of(endpoint).still.moved_at

    def telemetry(self, endpoint: Endpoint) -> Telemetry:
        """The last there was."""
        return self._of(endpoint).telemetry

    def awaits_trial(self, endpoint: Endpoint) -> bool:
        return self._ejections.awaits_trial(endpoint)

    def _ejected(self, endpoint: Endpoint, fault: Fault, seconds: float) -> None:
        log.warning("worker_ejected", worker=endpoint.name, reason=fault, seconds=seconds)
        self._metrics.ejection(endpoint.name, fault)
        self._metrics.ejected(endpoint.name, ejected=True)
        self._pool.changed()

    def _of(self, endpoint: Endpoint) -> _Health:
        health = self._health.get(endpoint)
        if health is None:
            health = self._health[endpoint] = _Health()
        return health


def _counts(telemetry: Telemetry) -> Counts:
    """What changes with its work. How many it runs, too: one that has just begun has done nothing
    yet."""
    return (
        telemetry.running,
        telemetry.prompt_tokens,
        telemetry.generation_tokens,
        telemetry.kv_usage,
    )
