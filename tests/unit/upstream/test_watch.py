"""When a worker is found hung, and when it is not to blame."""

from typing import Any

import pytest

from app.settings import Engine, Settings
from app.telemetry.metrics import Metrics
from app.upstream.ejection import FLAPS, Fault
from app.upstream.own_stall import OwnStall
from app.upstream.telemetry import Telemetry
from app.upstream.timeouts import Timeout
from app.upstream.watch import UNHEARD_SECONDS, Watch
from tests.support.workers_asked import pool_of

SILENCE_SECONDS = Settings().inter_token_seconds
IDLE = Telemetry(running=0, waiting=0, kv_usage=0.25)
AT_WORK = Telemetry(running=1, waiting=0, kv_usage=0.25)


class Watched:
    """A worker that was given a request, another one that could take it, and a clock that a test
    moves."""

    def __init__(self, engine: Engine = Engine.VLLM, **settings: Any) -> None:
        self.now = 1_000.0
        pool = pool_of({"engine": engine}, None)
        self.endpoint = pool.endpoints[0]
        self.watch = Watch(
            pool, Settings.model_validate(settings), Metrics(), clock=lambda: self.now
        )

    def gives(self) -> None:
        self.endpoint.in_flight += 1
        self.attempt = self.watch.attempt(self.endpoint)

    def says(self, telemetry: Telemetry) -> None:
        self.watch.reported(self.endpoint, telemetry)

    @property
    def is_ejected(self) -> bool:
        return self.endpoint.ejected_until is not None


class TestAWorkerThatSaysThatNothingRuns:
    def test_is_hung_once_it_has_had_something_of_ours_for_long(self) -> None:
        """A GPU that hangs in its first step: vLLM counts what runs when a step is done."""
        watched = Watched()
        watched.says(IDLE)
        watched.gives()
        watched.now += SILENCE_SECONDS - 1
        watched.says(IDLE)
        assert not watched.is_ejected
        watched.now += 1
        watched.says(IDLE)
        assert (watched.is_ejected, watched.attempt.given_up) == (True, True)

    def test_is_not_hung_while_its_server_makes_tokens_of_a_prompt(self) -> None:
        watched = Watched(inter_token_seconds=2.0)
        watched.says(IDLE)
        watched.gives()
        watched.now += UNHEARD_SECONDS - 1
        watched.says(IDLE)
        assert not watched.is_ejected
        watched.now += 1
        watched.says(IDLE)
        assert watched.is_ejected

    def test_is_not_hung_where_what_we_gave_it_has_just_come_or_has_begun(self) -> None:
        watched = Watched()
        watched.gives()
        watched.attempt.began()
        watched.now += 10 * SILENCE_SECONDS
        watched.gives()
        watched.says(IDLE)
        assert not watched.is_ejected

    def test_is_not_hung_where_it_says_that_something_waits(self) -> None:
        """It counted when the step was done in which nothing could run: a grammar is being made."""
        watched = Watched()
        watched.says(IDLE)
        watched.gives()
        for _ in range(10):
            watched.now += SILENCE_SECONDS
            watched.says(Telemetry(running=0, waiting=1, kv_usage=0.25))
        assert not watched.is_ejected

    def test_is_not_hung_where_it_shows_that_it_reads(self) -> None:
        watched = Watched()
        watched.gives()
        for step in range(10):
            watched.says(Telemetry(running=0, waiting=0, kv_usage=0.25 + step / 100))
            watched.now += SILENCE_SECONDS - 1
        assert not watched.is_ejected

    @pytest.mark.parametrize("engine", [Engine.SGLANG, Engine.LLAMACPP])
    def test_is_believed_where_it_counts_what_runs_before_a_step(self, engine: Engine) -> None:
        watched = Watched(engine)
        watched.says(IDLE)
        watched.gives()
        watched.now += 10 * SILENCE_SECONDS
        watched.says(IDLE)
        assert not watched.is_ejected


class TestOurOwnStall:
    """Whatever is seen while this process is held up is no worker's fault; later on it is."""

    def test_a_worker_seems_to_stand_still(self) -> None:
        watched = Watched()
        watched.says(AT_WORK)
        watched.gives()
        watched.watch.own_stall.tick(watched.now)
        watched.now += SILENCE_SECONDS
        watched.says(AT_WORK)
        assert not watched.is_ejected
        self._is_over(watched)
        watched.says(AT_WORK)
        assert watched.is_ejected

    def test_a_worker_seems_to_come_and_go(self) -> None:
        watched = Watched()
        watched.watch.own_stall.tick(watched.now - 10)
        for _ in range(FLAPS):
            watched.watch.lost(watched.endpoint)
        assert not watched.is_ejected
        self._is_over(watched)
        for _ in range(FLAPS):
            watched.watch.lost(watched.endpoint)
        assert watched.is_ejected

    def test_a_worker_seems_to_fail(self) -> None:
        watched = Watched(ejection_faults=1)
        watched.gives()
        watched.watch.own_stall.tick(watched.now - 10)
        assert watched.attempt.postponed_seconds() > 0
        for kind in Timeout:
            watched.attempt.timed_out(kind)
        watched.attempt.failed(Fault.RESET)
        watched.watch.probed(watched.endpoint, alive=False)
        assert not watched.is_ejected
        self._is_over(watched)
        assert watched.attempt.postponed_seconds() == 0
        watched.attempt.failed(Fault.RESET)
        assert watched.is_ejected

    def _is_over(self, watched: Watched) -> None:
        watched.watch.own_stall = OwnStall()
