"""The laws of placement, whatever the workers have and the request needs: it goes where it fits and
there is room, what is best comes first, and each worker is kept to what it is for."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ColdPrefillTooLong
from app.protocol.token_estimate import LIKELY_ERROR
from app.settings.pool import PoolSettings
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.least_loaded import Candidate
from app.upstream.load import Demand, Report
from app.upstream.placement import Option, choose, eligible, options
from tests.support.workers_asked import ask, pool_of

LONG_TOKENS = 1_000
RULES = PoolSettings(long_prefill_tokens=LONG_TOKENS, worker_prefill_tokens=20_000)
NOW = 100.0


def ranked_options(
    asked: Ask, workers: list[Endpoint], saved: dict[int, int] | None = None
) -> list[Option]:
    """In the order of the list; `saved` tokens by place in it."""
    known = saved or {}
    ranked = [Candidate(worker, known.get(at, 0)) for at, worker in enumerate(workers)]
    return options(asked, ranked, output_share=0.5, long_tokens=LONG_TOKENS)


def chosen(asked: Ask, workers: list[Endpoint], saved: dict[int, int] | None = None) -> Option:
    option = choose(ranked_options(asked, workers, saved), NOW, waited_seconds=0.0)
    assert option is not None
    return option


def workers_of(*settings: dict[str, Any] | None) -> list[Endpoint]:
    return pool_of(*settings, settings=RULES).endpoints


@dataclass(frozen=True)
class Worker:
    context: int
    tags: frozenset[str]
    ready: bool
    draining: bool
    last_resort: bool
    given: tuple[int, ...]
    capacity: int | None

    def endpoint(self) -> Endpoint:
        engine = "transformers" if self.last_resort else "vllm"
        settings = {"max_model_len": self.context, "tags": list(self.tags), "engine": engine}
        (endpoint,) = workers_of(settings)
        endpoint.ready, endpoint.draining = self.ready, self.draining
        endpoint.load.report(Report(NOW, self.capacity))
        for tokens in self.given:
            endpoint.load.reserve(Demand(tokens, tokens), NOW)
        return endpoint


tags = st.frozensets(st.sampled_from(("eu", "short", "long")))
workers = st.lists(
    st.builds(
        Worker,
        context=st.sampled_from((4_000, 30_000, 100_000)),
        tags=tags,
        ready=st.sampled_from((True, True, False)),
        draining=st.sampled_from((False, False, True)),
        last_resort=st.booleans(),
        given=st.lists(st.integers(0, 8_000), max_size=3).map(tuple),
        capacity=st.one_of(st.none(), st.integers(1, 40_000)),
    ),
    max_size=6,
)
asks = st.builds(
    ask,
    st.integers(1, 30_000),
    output_tokens=st.integers(0, 10_000),
    tags=st.sampled_from((frozenset(), frozenset({"eu"}))),
)


@given(workers, asks)
def test_it_goes_where_it_fits_and_there_is_room(there: list[Worker], asked: Ask) -> None:
    endpoints = [worker.endpoint() for worker in there]
    could = eligible(asked, endpoints, (), NOW)
    for endpoint in could:
        assert endpoint.ready
        assert not endpoint.draining
        assert asked.tags <= endpoint.tags
        assert endpoint.context_tokens >= asked.needed_tokens
    assert len({endpoint.last_resort for endpoint in could}) <= 1
    found = ranked_options(asked, could)
    assert {option.endpoint for option in found} == set(could)
    option = choose(found, NOW, waited_seconds=0.0)
    if option is not None:
        assert option.endpoint.load.has_room(option.demand, NOW)
    else:
        for each in found:
            full = not each.endpoint.load.has_room(each.demand, NOW)
            assert full or (each.spare and each.endpoint.load.long_prefills)


@given(workers, asks, st.data())
def test_one_that_failed_is_not_asked_again(
    there: list[Worker], asked: Ask, data: st.DataObject
) -> None:
    endpoints = [worker.endpoint() for worker in there]
    could = eligible(asked, endpoints, (), NOW)
    failed = data.draw(st.lists(st.sampled_from(could), unique=True)) if could else []
    left = eligible(asked, endpoints, failed, NOW)
    assert set(left) == set(could) - set(failed)


@given(workers, asks, st.dictionaries(st.integers(0, 5), st.integers(2_048, 30_000)))
def test_workers_that_are_meant_for_it_or_save_something_stay_as_they_were_ranked(
    there: list[Worker], asked: Ask, saved: dict[int, int]
) -> None:
    could = eligible(asked, [worker.endpoint() for worker in there], (), NOW)
    found = ranked_options(asked, could, saved)
    spare = [option.spare for option in found]
    assert spare == sorted(spare)
    kept = [option.endpoint for option in found if not option.spare]
    assert kept == [endpoint for endpoint in could if endpoint in kept]
    for option in found:
        assert option.demand.cold_tokens == asked.prompt_tokens - option.saved_tokens >= 0


def test_the_smallest_context_that_holds_it_comes_first() -> None:
    small, middle, large = endpoints = workers_of(
        {"max_model_len": 4_000}, {"max_model_len": 30_000}, {"max_model_len": 100_000}
    )
    for tokens, expected in ((500, small), (20_000, middle), (50_000, large)):
        for order in (endpoints, endpoints[::-1]):
            could = eligible(ask(tokens), order, (), NOW)
            assert chosen(ask(tokens), could).endpoint is expected


def test_tags_say_what_a_worker_is_for_where_contexts_do_not() -> None:
    long, plain, short = endpoints = workers_of({"tags": ["long"]}, None, {"tags": ["short"]})
    assert [o.endpoint for o in ranked_options(ask(10), endpoints)] == [short, plain, long]
    assert [o.endpoint for o in ranked_options(ask(5_000), endpoints)] == [long, plain, short]


class TestAShortPromptOnALongWorker:
    @pytest.fixture
    def endpoints(self) -> list[Endpoint]:
        return workers_of(
            {"max_model_len": 4_000, "max_concurrency": 1}, {"max_model_len": 100_000}
        )

    def test_it_overflows_there_while_nothing_long_is_read(self, endpoints: list[Endpoint]) -> None:
        small, large = endpoints
        small.load.reserve(Demand(1, 1), NOW)
        option = chosen(ask(10), endpoints)
        assert (option.endpoint, option.reason) == (large, "overflow")

    def test_it_waits_while_a_long_prompt_is_read(self, endpoints: list[Endpoint]) -> None:
        small, large = endpoints
        small.load.reserve(Demand(1, 1), NOW)
        large.load.reserve(Demand(5_000, 5_000), NOW)
        assert choose(ranked_options(ask(10), endpoints), NOW, waited_seconds=0.0) is None

    def test_it_does_not_wait_where_there_is_no_worker_for_it(
        self, endpoints: list[Endpoint]
    ) -> None:
        small, large = endpoints
        small.ready = False
        large.load.reserve(Demand(5_000, 5_000), NOW)
        could = eligible(ask(10), endpoints, (), NOW)
        assert chosen(ask(10), could).endpoint is large

    def test_it_may_go_where_its_beginning_is_known(self, endpoints: list[Endpoint]) -> None:
        small, large = endpoints
        small.load.reserve(Demand(1, 1), NOW)
        large.load.reserve(Demand(5_000, 5_000), NOW)
        option = chosen(ask(3_000), endpoints, {1: 2_500})
        assert (option.endpoint, option.reason) == (large, "affinity")


def test_transformers_is_asked_only_where_no_other_could_be() -> None:
    last, other = endpoints = workers_of({"engine": "transformers"}, None)
    assert eligible(ask(10), endpoints, (), NOW) == [other]
    assert eligible(ask(10), endpoints, [other], NOW) == []
    other.ready = False
    assert eligible(ask(10), endpoints, (), NOW) == [last]


def test_a_prompt_of_unknown_length_goes_where_it_may_fit() -> None:
    _, large = endpoints = workers_of({"max_model_len": 4_000}, {"max_model_len": 100_000})
    asked = ask(50_000, needed_tokens=0)
    assert eligible(asked, endpoints, (), NOW) == [large]
    assert eligible(ask(500_000, needed_tokens=0), endpoints, (), NOW) == [large]


class TestALimitOnWhatIsReadAnew:
    def test_only_workers_that_know_enough_are_asked(self) -> None:
        endpoints = workers_of(None, None)
        found = ranked_options(ask(10_000, max_cold_tokens=1_000), endpoints, {1: 9_500})
        assert [option.endpoint for option in found] == [endpoints[1]]

    @given(limit=st.integers(1, 20_000), saved=st.integers(0, 10_000))
    def test_it_is_refused_where_none_does(self, limit: int, saved: int) -> None:
        endpoints = workers_of(None)
        asked = ask(10_000, max_cold_tokens=limit)
        if 10_000 - saved > limit * LIKELY_ERROR:
            with pytest.raises(ColdPrefillTooLong):
                ranked_options(asked, endpoints, {0: saved})
        else:
            assert ranked_options(asked, endpoints, {0: saved})
