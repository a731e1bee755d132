"""Which worker is asked next."""

import pytest

from app.errors import InvalidRequest, Unavailable
from app.settings import DEFAULT_CONTEXT_TOKENS, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.pool import Pool


def make_pool(count: int = 3, **settings: object) -> Pool:
    pool = Pool(
        [
            WorkerSettings.model_validate({"url": f"http://w{index}:8000"} | settings)
            for index in range(count)
        ]
    )
    for endpoint in pool.endpoints:
        endpoint.ready = True
    return pool


def test_the_least_loaded_is_asked() -> None:
    pool = make_pool()
    pool.endpoints[0].in_flight, pool.endpoints[2].in_flight = 2, 1
    assert pool.pick() is pool.endpoints[1]


def test_equals_take_turns() -> None:
    pool = make_pool()
    assert {pool.pick().name for _ in range(3)} == {"w0:8000", "w1:8000", "w2:8000"}


def test_one_that_is_not_ready_or_has_failed_is_not_asked() -> None:
    pool = make_pool()
    pool.endpoints[0].ready = False
    assert pool.pick(but=[pool.endpoints[1]]) is pool.endpoints[2]


def test_none_left_is_a_503_with_a_time_to_come_back() -> None:
    pool = make_pool(1)
    pool.endpoints[0].ready = False
    with pytest.raises(Unavailable) as caught:
        pool.pick()
    assert caught.value.status == 503
    assert caught.value.retry_after_seconds is not None


def test_a_prompt_goes_where_it_fits() -> None:
    pool = make_pool(2)
    pool.endpoints[0].learned("m", 32_000)
    pool.endpoints[1].learned("m", 1_010_000)
    assert pool.pick(tokens=100_000) is pool.endpoints[1]
    assert pool.context_tokens == 1_010_000


def test_a_configured_context_wins_over_what_the_worker_says() -> None:
    pool = make_pool(1, max_model_len=4096)
    pool.endpoints[0].learned("m", 8192)
    assert pool.context_tokens == 4096


def test_a_worker_that_says_nothing_has_the_models_context() -> None:
    assert make_pool(1).context_tokens == DEFAULT_CONTEXT_TOKENS


def test_requests_are_counted_while_they_run_however_they_end() -> None:
    endpoint = make_pool(1).endpoints[0]
    with pytest.raises(ValueError, match="boom"), endpoint.carrying(Metrics()):
        assert endpoint.in_flight == 1
        raise ValueError("boom")
    assert endpoint.in_flight == 0


def test_a_workers_name_holds_no_credentials() -> None:
    worker = WorkerSettings.model_validate({"url": "http://user:secret@w:8000/v1"})
    (endpoint,) = Pool([worker]).endpoints
    assert endpoint.name == "w:8000"


FORMATTED = {"response_format": {"type": "json_object"}}


def mixed_pool() -> Pool:
    """Only the second can do all that is asked."""
    pool = Pool(
        [
            WorkerSettings.model_validate({"url": "http://w0:1", "separation": "inline"}),
            WorkerSettings.model_validate({"url": "http://w1:1"}),
        ]
    )
    for endpoint in pool.endpoints:
        endpoint.ready = True
    return pool


def test_one_that_can_do_what_is_asked_is_asked_however_busy() -> None:
    pool = mixed_pool()
    pool.endpoints[1].in_flight = 9
    assert pool.pick(fields=FORMATTED) is pool.endpoints[1]
    assert pool.pick() is pool.endpoints[0]


def test_what_only_an_absent_worker_can_do_is_worth_another_try() -> None:
    pool = mixed_pool()
    pool.endpoints[1].ready = False
    with pytest.raises(Unavailable):
        pool.pick(fields=FORMATTED)


def test_what_only_a_worker_that_has_failed_can_do_is_not_tried_on_another() -> None:
    pool = mixed_pool()
    failed = [pool.endpoints[1]]
    assert pool.another(tokens=0, but=failed, fields={})
    assert not pool.another(tokens=0, but=failed, fields=FORMATTED)
    with pytest.raises(Unavailable):
        pool.pick(but=failed, fields=FORMATTED)


def test_what_no_worker_can_do_is_refused_by_name() -> None:
    pool = make_pool(separation="inline")
    with pytest.raises(InvalidRequest) as caught:
        pool.pick(fields=FORMATTED)
    assert (caught.value.param, caught.value.code) == ("response_format", "unsupported_parameter")


def test_without_any_worker_nothing_is_said_of_what_is_asked() -> None:
    pool = make_pool(1, separation="inline")
    pool.endpoints[0].ready = False
    with pytest.raises(Unavailable):
        pool.pick(fields=FORMATTED)
