"""The laws of where prompts go that nobody has read."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.prefix import Prefix, PrefixMemory
from app.settings import WorkerSettings
from app.upstream.affinity import Affinity
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.load import STREAM_TOKENS, Demand

laws = settings(max_examples=100, deadline=None)

conversations = st.binary(min_size=16, max_size=16)
names = st.lists(st.integers(1, 250), min_size=1, max_size=12, unique=True)


def affinity() -> Affinity:
    memory = PrefixMemory(seconds=600, entries=100)
    return Affinity(memory, floor_tokens_per_second=400)


def pool(numbers: list[int]) -> list[Endpoint]:
    urls = [f"http://10.0.0.{number}:8000" for number in numbers]
    return [Endpoint(WorkerSettings.model_validate({"url": url})) for url in urls]


def ask(conversation: bytes, tokens: int = 100) -> Ask:
    return Ask("acme", tokens, 1_000, tokens, {}, Prefix(tokens * 4), conversation)


def order(conversation: bytes, workers: list[Endpoint], tokens: int = 100) -> list[str]:
    ranked = affinity().rank(ask(conversation, tokens), workers, 0.0)
    return [choice.endpoint.name for choice in ranked]


@laws
@given(names, conversations, st.data())
def test_replicas_agree_in_whatever_order_they_know_the_workers(
    numbers: list[int], conversation: bytes, data: st.DataObject
) -> None:
    ours = order(conversation, pool(numbers))
    assert sorted(ours) == sorted(endpoint.name for endpoint in pool(numbers))
    assert order(conversation, pool(data.draw(st.permutations(numbers)))) == ours


@laws
@given(names, conversations, st.data())
def test_a_worker_that_goes_moves_no_conversation_but_its_own(
    numbers: list[int], conversation: bytes, data: st.DataObject
) -> None:
    before = order(conversation, pool(numbers))
    gone = data.draw(st.sampled_from(numbers))
    left = pool([number for number in numbers if number != gone])
    assert order(conversation, left) == [each for each in before if each != f"10.0.0.{gone}:8000"]


@laws
@given(
    st.lists(st.integers(0, 1_000_000), min_size=1, max_size=12),
    conversations,
    st.integers(1, 1_000_000),
)
def test_no_worker_is_chosen_where_it_waits_longer_than_it_is_read(
    busy_tokens: list[int], conversation: bytes, tokens: int
) -> None:
    workers = pool(list(range(1, len(busy_tokens) + 1)))
    for worker, busy in zip(workers, busy_tokens, strict=True):
        worker.load.reserve(Demand(busy, busy), 0.0)
    first = affinity().rank(ask(conversation, tokens), workers, 0.0)[0].endpoint
    least = min(worker.load.pressure(0.0) for worker in workers)
    assert first.load.pressure(0.0) <= least + tokens + STREAM_TOKENS


@settings(max_examples=10, deadline=None)
@given(conversations, st.integers(2, 8), st.sampled_from([100, 10_000]))
def test_one_conversation_alone_cannot_overload_its_worker(
    conversation: bytes, workers: int, tokens: int
) -> None:
    """Or one hint under which a client sends everything."""
    endpoints = pool(list(range(1, workers + 1)))
    replica = affinity()
    for _ in range(40 * workers):
        chosen = replica.rank(ask(conversation, tokens), endpoints, 0.0)[0].endpoint
        chosen.load.reserve(Demand(tokens, tokens), 0.0)
    assert max(endpoint.load.streams for endpoint in endpoints) <= 40 + 2


def test_conversations_spread_evenly() -> None:
    workers = pool(list(range(1, 9)))
    chosen = Counter(order(number.to_bytes(16, "big"), workers)[0] for number in range(4_000))
    assert set(chosen) == {worker.name for worker in workers}
    assert max(chosen.values()) < 1.2 * 4_000 / 8
