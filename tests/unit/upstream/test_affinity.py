"""Which worker is best for a prompt, by what it has read, how busy it is and whose prompt it is."""

from collections.abc import Sequence

import pytest

from app.protocol.prefix import Prefix, PrefixMemory, prefix_of
from app.settings import WorkerSettings
from app.upstream.affinity import (
    FREE_TOKENS,
    HELD_TOKENS,
    MIN_SAVED_TOKENS,
    PATIENCE_SHARE,
    Affinity,
    Choice,
)
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.load import Demand, Report
from app.upstream.reading import work_of
from tests.support.prompts import text_of

FLOOR = 400.0
DOCUMENT = "".join(f"Line {number} of a long document.\n" for number in range(4_000))
CONVERSATION = b"0123456789abcdef"
WAIT_SECONDS = 100_000.0


def pool(workers: int) -> list[Endpoint]:
    urls = [f"http://10.0.0.{at}:8000" for at in range(1, workers + 1)]
    return [Endpoint(WorkerSettings.model_validate({"url": url})) for url in urls]


def ask(
    *turns: str,
    tokens: int = 100_000,
    conversation: bytes = CONVERSATION,
    wait_seconds: float = WAIT_SECONDS,
) -> Ask:
    return Ask(
        "acme",
        tokens,
        1_000,
        tokens + 1_000,
        {},
        prefix(*turns),
        conversation,
        wait_seconds=wait_seconds,
    )


def prefix(*turns: str) -> Prefix:
    return prefix_of(text_of(*(turns or ("hi",))), "acme")


def busy(endpoint: Endpoint, tokens: int) -> None:
    endpoint.load.reserve(Demand(tokens, tokens), 0.0)


@pytest.fixture
def memory() -> PrefixMemory:
    return PrefixMemory(seconds=600, entries=10_000)


@pytest.fixture
def affinity(memory: PrefixMemory) -> Affinity:
    return Affinity(memory, floor_tokens_per_second=FLOOR)


def names(choices: Sequence[Choice]) -> list[str]:
    return [choice.endpoint.name for choice in choices]


# -- a worker that has read it


def test_the_worker_that_has_most_of_the_prompt_comes_first(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(4)
    memory.remember(prefix(DOCUMENT), workers[1].name, 0.0)
    memory.remember(prefix(DOCUMENT, "Lines.", DOCUMENT), workers[2].name, 1.0)
    ranked = affinity.rank(ask(DOCUMENT, "Lines.", DOCUMENT, "No.", "Why?"), workers, 2.0)
    assert [choice.endpoint for choice in ranked[:2]] == [workers[2], workers[1]]
    assert ranked[0].saved_tokens > 99_000
    assert ranked[1].saved_tokens == pytest.approx(50_000, rel=0.01)
    assert [choice.saved_tokens for choice in ranked[2:]] == [0, 0]


def test_a_little_that_is_saved_counts_for_nothing(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(3)
    for at in range(3):
        memory.remember(prefix(DOCUMENT), workers[at].name, 0.0)
        small = ask(DOCUMENT, "Lines.", "Why?", tokens=MIN_SAVED_TOKENS - 1)
        ranked = affinity.rank(small, workers, 1.0)
        assert [choice.saved_tokens for choice in ranked] == [0, 0, 0]
        assert names(ranked) == names(affinity.rank(ask(), workers, 1.0))


def test_what_was_read_too_long_ago_is_not_counted_on(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(3)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0)
    ranked = affinity.rank(ask(DOCUMENT, "Lines.", "Why?"), workers, 600.0)
    assert [choice.saved_tokens for choice in ranked] == [0, 0, 0]


def test_a_restarted_worker_has_nothing(affinity: Affinity, memory: PrefixMemory) -> None:
    workers = pool(3)
    follow_up = ask(DOCUMENT, "Lines.", "Why?")
    affinity.rank(follow_up, workers, 0.0)
    for worker in workers[:2]:
        memory.remember(prefix(DOCUMENT), worker.name, 0.0)
    workers[0].renew()
    saved = {each.endpoint: each.saved_tokens for each in affinity.rank(follow_up, workers, 1.0)}
    assert (saved[workers[0]], saved[workers[1]] > 99_000) == (0, True)
    memory.remember(prefix(DOCUMENT), workers[0].name, 1.0)
    assert affinity.rank(follow_up, workers, 2.0)[1].saved_tokens > 99_000


def test_a_worker_that_left_is_forgotten_whatever_comes_under_its_name(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(2)
    follow_up = ask(DOCUMENT, "Lines.", "Why?")
    affinity.rank(follow_up, workers, 0.0)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0)
    affinity.forget_worker(workers[0].name)
    assert all(not choice.saved_tokens for choice in affinity.rank(follow_up, pool(2), 1.0))


# -- what is saved against what there is to do before


def ranked_when_busy(
    affinity: Affinity, memory: PrefixMemory, saved_tokens: int, busy_tokens: int
) -> list[Choice]:
    """Of three workers: the first one has the prompt and so much to do."""
    workers = pool(3)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0)
    busy(workers[0], busy_tokens)
    return affinity.rank(ask(DOCUMENT, "Lines.", "Why?", tokens=saved_tokens), workers, 1.0)


@pytest.mark.parametrize(("busy_tokens", "first"), [(15_000, True), (25_000, False)])
def test_a_short_prompt_goes_elsewhere_if_its_worker_is_busier_than_it_saves(
    busy_tokens: int, first: bool, affinity: Affinity, memory: PrefixMemory
) -> None:
    ranked = ranked_when_busy(affinity, memory, 20_000, busy_tokens)
    assert (ranked[0].saved_tokens > 0) is first
    assert all(choice.patience_seconds == 0 for choice in ranked)
    assert sum(choice.saved_tokens > 0 for choice in ranked) == 1


def test_a_long_prompt_waits_for_its_worker_as_long_as_reading_it_would_take(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    ranked = ranked_when_busy(affinity, memory, 400_000, 900_000)
    first, *others = ranked
    assert first.saved_tokens > 399_000
    assert first.patience_seconds == pytest.approx(first.saved_tokens / FLOOR)
    assert [other.patience_seconds for other in others] == [0, 0]


def test_in_between_the_patience_grows_with_what_is_saved(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    patience = [
        ranked_when_busy(affinity, memory, tokens, 0)[0].patience_seconds / tokens
        for tokens in (FREE_TOKENS, 2 * FREE_TOKENS, HELD_TOKENS // 2, HELD_TOKENS)
    ]
    assert patience[0] == 0
    assert patience == sorted(set(patience))


def test_the_patience_follows_the_speed_at_which_the_worker_reads(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(2)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0)
    load = workers[0].load
    load.began(load.reserve(Demand(50_000, 0), 0.0), 5.0)
    (first, _) = affinity.rank(ask(DOCUMENT, "Lines.", "Why?", tokens=500_000), workers, 6.0)
    # Reading it again would take longer, token by token, than the short one that was seen.
    again = 5 * work_of(first.saved_tokens) / work_of(50_000)
    assert again > 2 * first.saved_tokens / 10_000
    assert first.patience_seconds == pytest.approx(again)


def test_it_leaves_time_to_find_another_worker(affinity: Affinity, memory: PrefixMemory) -> None:
    workers = pool(2)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0)
    long = ask(DOCUMENT, "Lines.", "Why?", tokens=1_000_000, wait_seconds=120)
    assert affinity.rank(long, workers, 1.0)[0].patience_seconds == PATIENCE_SHARE * 120


def test_between_workers_that_have_as_much_nothing_is_waited_for(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(4)
    for worker in workers[:2]:
        memory.remember(prefix(DOCUMENT), worker.name, 0.0)
    follow_up = ask(DOCUMENT, "Lines.", "Why?", tokens=400_000)
    first, second, third, _ = affinity.rank(follow_up, workers, 1.0)
    assert {first.endpoint, second.endpoint} == set(workers[:2])
    assert (first.patience_seconds, second.patience_seconds > 900) == (0, True)
    assert third.saved_tokens == 0
    busy(first.endpoint, 500_000)
    assert affinity.rank(follow_up, workers, 1.0)[0].endpoint is second.endpoint


def test_where_all_have_as_much_the_conversation_decides(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(4)
    for worker in workers:
        memory.remember(prefix(DOCUMENT), worker.name, 0.0)
    known = affinity.rank(ask(DOCUMENT, "Lines.", "Why?"), workers, 1.0)
    assert names(known) == names(affinity.rank(ask(), workers, 1.0))
    assert all(choice.saved_tokens > 99_000 for choice in known)
    assert all(choice.patience_seconds == 0 for choice in known)


# -- a prompt that nobody has read


def test_the_order_is_that_of_every_other_process(affinity: Affinity) -> None:
    """And of every version of the gateway that runs beside this one while it is replaced."""
    ranked = names(affinity.rank(ask(), pool(5), 0.0))
    assert [name.removesuffix(":8000")[-1] for name in ranked] == list("31542")


def test_a_worker_alone_is_the_best(affinity: Affinity) -> None:
    (worker,) = pool(1)
    busy(worker, 1_000_000)
    assert affinity.rank(ask(), [worker], 0.0) == [Choice(worker)]


def test_one_that_has_much_more_to_do_than_another_comes_last(affinity: Affinity) -> None:
    workers = pool(3)
    first = affinity.rank(ask(tokens=1_000), workers, 0.0)[0].endpoint
    busy(first, 500_000)
    assert affinity.rank(ask(tokens=1_000), workers, 0.0)[-1].endpoint is first
    for worker in workers:
        if worker is not first:
            busy(worker, 450_000)
    assert affinity.rank(ask(tokens=100_000), workers, 0.0)[0].endpoint is first


def test_beside_a_long_prompt_short_ones_go_to_those_that_are_idle(affinity: Affinity) -> None:
    """One worker that reads a million tokens makes the mean so high that all others are below."""
    workers = pool(8)
    busy(workers[0], 1_000_000)
    busy(workers[1], 100_000)
    for number in range(40):
        short = ask(tokens=1_000, conversation=number.to_bytes(16, "big"))
        ranked = affinity.rank(short, workers, 0.0)
        assert [choice.endpoint for choice in ranked[-2:]] == [workers[1], workers[0]]


def test_the_longest_prompts_keep_to_the_same_workers(affinity: Affinity) -> None:
    """Each would else push out what another worker has in its cache."""
    workers = pool(8)
    firsts = {
        tokens: {
            affinity.rank(ask(tokens=tokens, conversation=bytes([number]) * 16), workers, 0.0)[0]
            for number in range(40)
        }
        for tokens in (HELD_TOKENS - 1, HELD_TOKENS)
    }
    assert len(firsts[HELD_TOKENS - 1]) > 4
    assert len(firsts[HELD_TOKENS]) == 1


def longest(affinity: Affinity, workers: list[Endpoint]) -> list[Endpoint]:
    """Those that a prompt of half a million tokens is to go to, in order."""
    return [each.endpoint for each in affinity.rank(ask(tokens=500_000), workers, 0.0)]


def test_one_of_the_longest_goes_to_a_worker_at_which_no_other_process_is(
    affinity: Affinity,
) -> None:
    """All processes have one order, and none knows how many long prompts the others gave."""
    workers = pool(3)
    first, second, third = longest(affinity, workers)
    first.load.report(Report(0.0, capacity_tokens=1_000_000, running=1, kv_usage=0.01))
    assert longest(affinity, workers) == [second, third, first]
    second.load.report(Report(0.0, capacity_tokens=1_000_000, running=1, kv_usage=0.9))
    assert longest(affinity, workers) == [third, first, second]


def test_where_others_are_everywhere_the_longest_still_keep_to_the_same_workers(
    affinity: Affinity,
) -> None:
    workers = pool(3)
    order = longest(affinity, workers)
    for running, worker in enumerate(reversed(order), start=1):
        worker.load.report(Report(0.0, capacity_tokens=1_000_000, running=running, kv_usage=0.1))
    assert longest(affinity, workers) == order


def test_a_process_alone_is_not_disturbed_by_what_it_has_given_itself(affinity: Affinity) -> None:
    workers = pool(3)
    order = longest(affinity, workers)
    order[0].load.reserve(Demand(0, 400_000), 0.0)
    order[0].load.report(Report(0.0, capacity_tokens=1_000_000, running=1, kv_usage=0.4))
    assert longest(affinity, workers) == order


def test_a_prompt_that_another_has_pushed_out_is_not_counted_on(
    affinity: Affinity, memory: PrefixMemory
) -> None:
    workers = pool(2)
    workers[0].load.report(Report(0.0, capacity_tokens=1_000_000))
    affinity.rank(ask(DOCUMENT), workers, 0.0)
    memory.remember(prefix(DOCUMENT), workers[0].name, 0.0, prompt_tokens=300_000)
    follow_up = ask(DOCUMENT, "Lines.", "Why?", tokens=310_000)
    assert affinity.rank(follow_up, workers, 1.0)[0].saved_tokens > 299_000
    memory.remember(prefix(DOCUMENT.upper()), workers[0].name, 2.0, prompt_tokens=900_000)
    assert all(not choice.saved_tokens for choice in affinity.rank(follow_up, workers, 3.0))
