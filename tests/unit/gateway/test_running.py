"""Which requests are the same, which come again, and how much is kept for those."""

from dataclasses import replace
from typing import Any

import pytest

from app.errors import Conflict, Unavailable, UpstreamFailed
from app.gateway.asked import Asked, Origin, Terms
from app.gateway.attach import find_run
from app.gateway.running import MAX_FOLLOWERS, Run, Running
from app.protocol.events import TextDelta, Usage
from app.protocol.request import ChatRequest
from app.rules.load import shipped
from app.store.policy import Policy
from tests.unit.gateway.preparing import REQUEST, USER

ROUTE = "/v1/chat/completions"
BODY = {"model": "qwythos", "messages": [USER]}
TERMS = Terms(Policy(), shipped())


def request(**fields: Any) -> ChatRequest:
    body = BODY | fields
    return replace(REQUEST, sent=body, stream=bool(body.get("stream")))


def origin(request_id: str = "req_1", *, route: str = ROUTE, **fields: Any) -> Origin:
    known = {name: fields.pop(name) for name in ORIGIN_FIELDS if name in fields}
    made = Origin(request_id, "key_1", Asked(route, request(**fields)), TERMS)
    return replace(made, **known)


ORIGIN_FIELDS = ("key_id", "terms", "idempotency_key", "retries")


def runs(*, run_bytes: int = 10_000, total_bytes: int = 100_000) -> Running:
    return Running(run_bytes=run_bytes, total_bytes=total_bytes)


def begun(running: Running, of: Origin) -> Run:
    return running.begin(of, lambda: None)


# -- the same request


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": False},
    ],
)
def test_how_it_is_read_makes_no_other_request(fields: dict[str, Any]) -> None:
    assert Asked(ROUTE, request(**fields)) == Asked(ROUTE, request())


def test_the_order_of_fields_makes_no_other_request() -> None:
    turned = dict(reversed(list(BODY.items())))
    assert Asked(ROUTE, replace(REQUEST, sent=turned)) == Asked(ROUTE, request())


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.9},
        {"seed": 1},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"messages": [USER, USER]},
        {"model": "another"},
        {"user": "somebody"},
        {"tools": []},
        {"gateway": {"annotate": True}},
    ],
)
def test_any_other_field_does(fields: dict[str, Any]) -> None:
    assert Asked(ROUTE, request(**fields)) != Asked(ROUTE, request())


def test_one_and_true_are_not_the_same() -> None:
    one, true = ({"tools": [{"parameters": {"default": value}}]} for value in (1, True))
    assert Asked(ROUTE, request(**one)) != Asked(ROUTE, request(**true))


def test_another_route_makes_another_request() -> None:
    assert Asked("/v1/completions", request()) != Asked(ROUTE, request())


# -- coming again


def found(again: Origin, first: Origin, *, gone: bool = False) -> bool:
    running = runs()
    run = begun(running, first)
    if gone:
        run.client_left()
    return find_run(again, running) is run


@pytest.mark.parametrize(
    ("first", "again", "gone", "attaches"),
    [
        ({}, {}, False, False),
        ({}, {}, True, True),
        ({}, {"retries": 1}, False, True),
        ({"retries": 1}, {"retries": 1}, False, False),  # another one's
        ({"retries": 2}, {"retries": 1}, False, False),
        ({"retries": 1}, {"retries": 2}, False, True),
        ({"idempotency_key": "a"}, {"idempotency_key": "a"}, False, True),
        ({"idempotency_key": "a"}, {"idempotency_key": "b", "retries": 1}, True, False),
        ({"idempotency_key": "a"}, {"retries": 1}, True, False),
        ({}, {"idempotency_key": "a", "retries": 1}, True, False),
        ({}, {"retries": 1, "key_id": "key_2"}, True, False),
        ({"idempotency_key": "a"}, {"idempotency_key": "a", "key_id": "key_2"}, True, False),
        ({}, {"retries": 1, "seed": 1}, True, False),
        ({}, {"retries": 1, "route": "/v1/completions"}, True, False),
        ({}, {"retries": 1, "terms": Terms(Policy(), shipped())}, False, True),
        ({}, {"retries": 1, "terms": Terms(Policy(priority="batch"), shipped())}, False, False),
    ],
)
def test_who_gets_a_running_answer(
    first: dict[str, Any], again: dict[str, Any], gone: bool, attaches: bool
) -> None:
    assert found(origin("req_2", **again), origin(**first), gone=gone) is attaches


def test_an_idempotency_key_belongs_to_one_body() -> None:
    running = runs()
    begun(running, origin(idempotency_key="a"))
    with pytest.raises(Conflict) as caught:
        find_run(origin("req_2", idempotency_key="a", seed=1), running)
    assert (caught.value.status, caught.value.should_retry) == (409, False)
    assert find_run(origin("req_2", idempotency_key="a", seed=1, key_id="key_2"), running) is None


def test_only_so_many_read_along() -> None:
    running = runs()
    run = begun(running, origin())
    again = origin("req_2", retries=1)
    following = [run.followed() for _ in range(MAX_FOLLOWERS)]
    for one in following:
        assert find_run(again, running) is run
        one.__enter__()
    assert find_run(again, running) is None
    following[0].__exit__(None, None, None)
    assert find_run(again, running) is run


def test_what_has_ended_is_gone() -> None:
    running = runs()
    run = begun(running, origin(idempotency_key="a"))
    run.complete(Usage(), {0: "stop"})
    run.end(None)
    assert find_run(origin("req_2", idempotency_key="a"), running) is None
    assert len(running) == 0


def test_what_was_given_up_ends_with_an_error_that_may_be_tried_again() -> None:
    run = begun(runs(), origin())
    run.end(None)
    assert isinstance(run.error, Unavailable)


def test_what_failed_keeps_nothing_for_a_client_that_is_gone() -> None:
    running = runs()
    run = begun(running, origin())
    run.client_left()
    run.publish([TextDelta(0, "text")])
    run.end(UpstreamFailed("It failed."))
    assert len(running) == 0
    assert running.held_bytes == 0


# -- the bounds


def test_an_answer_that_is_too_long_is_no_longer_kept() -> None:
    running = runs(run_bytes=1_000)
    run = begun(running, origin())
    for _ in range(10):
        run.publish([TextDelta(0, "x") for _ in range(10)])
    assert run.since(0) == ()
    assert running.held_bytes == 0
    assert find_run(origin("req_2", retries=1), running) is None


def test_all_together_are_bounded() -> None:
    running = runs(run_bytes=10_000, total_bytes=10_000)
    many = [begun(running, origin(f"req_{number}")) for number in range(10)]
    for _ in range(10):
        for run in many:
            run.publish([TextDelta(0, "x") for _ in range(5)])
            assert running.held_bytes <= 10_000
    assert any(run.since(0) for run in many)


def test_who_reads_along_is_not_cut_off() -> None:
    running = runs(run_bytes=1_000)
    run = begun(running, origin())
    with run.followed():
        for _ in range(100):
            run.publish([TextDelta(0, "x")])
        assert len(run.since(0)) == 100
        assert find_run(origin("req_2", retries=1), running) is None
    assert running.held_bytes == 0
