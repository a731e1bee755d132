"""Which workers there are."""

import pytest

from app.errors import Unavailable
from app.settings import DEFAULT_CONTEXT_TOKENS
from app.upstream.endpoint import Endpoint
from app.upstream.pool import Pool
from tests.support.workers_asked import pool_of


def test_a_small_question_goes_to_the_least_busy() -> None:
    pool = pool_of(None, None, None)
    pool.endpoints[0].in_flight, pool.endpoints[2].in_flight = 2, 1
    assert pool.pick() is pool.endpoints[1]


def test_equals_take_turns() -> None:
    pool = pool_of(None, None, None)
    assert {pool.pick().name for _ in range(3)} == {"w0:8000", "w1:8000", "w2:8000"}


def test_none_left_is_a_503_with_a_time_to_come_back() -> None:
    pool = pool_of(None)
    pool.endpoints[0].ready = False
    with pytest.raises(Unavailable) as caught:
        pool.pick()
    assert (caught.value.status, caught.value.code) == (503, "no_available_workers")
    assert caught.value.retry_after_seconds is not None


def test_the_longest_context_is_that_of_a_worker_that_is_there() -> None:
    pool = pool_of(None, None)
    pool.endpoints[0].learned("m", 32_000)
    pool.endpoints[1].learned("m", 1_010_000)
    assert pool.context_tokens == 1_010_000
    pool.endpoints[1].ready = False
    assert pool.context_tokens == 32_000


def test_a_configured_context_wins_over_what_the_worker_says() -> None:
    pool = pool_of({"max_model_len": 4096})
    pool.endpoints[0].learned("m", 8192)
    assert pool.context_tokens == 4096


def test_a_worker_that_says_nothing_has_the_models_context() -> None:
    assert pool_of(None).context_tokens == DEFAULT_CONTEXT_TOKENS
    assert Pool([]).context_tokens == DEFAULT_CONTEXT_TOKENS


def test_a_workers_name_holds_no_credentials() -> None:
    (endpoint,) = pool_of({"url": "http://user:secret@w:8000/v1"}).endpoints
    assert endpoint.name == "w:8000"


def test_transformers_is_given_one_request_at_a_time_whatever_is_said() -> None:
    (endpoint,) = pool_of({"engine": "transformers", "max_concurrency": 8}).endpoints
    assert endpoint.load.rules.max_streams == 1


class TestRemoval:
    def removed(self, pool: Pool) -> list[Endpoint]:
        gone: list[Endpoint] = []
        pool.on_removed = gone.append
        return gone

    def test_an_idle_worker_is_gone_at_once(self) -> None:
        pool = pool_of(None, None)
        gone = self.removed(pool)
        first, second = pool.endpoints
        pool.remove(first)
        assert (pool.endpoints, gone) == ([second], [first])

    def test_one_that_is_busy_goes_with_its_last_request(self) -> None:
        pool = pool_of(None)
        gone = self.removed(pool)
        (worker,) = pool.endpoints
        worker.in_flight = 2
        pool.remove(worker)
        assert not worker.takes_requests(0.0)
        for left, expected in ((1, []), (0, [worker])):
            worker.in_flight = left
            pool.released(worker)
            assert gone == expected
        assert pool.endpoints == []

    def test_one_that_is_wanted_again_stays(self) -> None:
        pool = pool_of(None)
        gone = self.removed(pool)
        (worker,) = pool.endpoints
        worker.in_flight = 1
        pool.remove(worker)
        pool.resume(worker)
        worker.in_flight = 0
        pool.released(worker)
        assert (pool.endpoints, gone) == ([worker], [])
        assert worker.takes_requests(0.0)


def test_a_worker_that_is_added_is_looked_at_soon() -> None:
    pool = pool_of(None)
    added = pool.add(pool_of({"url": "http://new:1"}).endpoints[0].settings)
    assert added in pool.endpoints
    assert not added.takes_requests(0.0)
    assert pool.lost.is_set()
