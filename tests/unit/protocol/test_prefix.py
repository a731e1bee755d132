"""Which prompts are warm at which worker, and how far that is believed."""

import pytest

from app.protocol.prefix import (
    BLOCK_BYTES,
    MIN_PREFIX_BYTES,
    NOTHING_KNOWN,
    KnownPrefix,
    Prefix,
    PrefixMemory,
    Trust,
    prefix_of,
)
from app.protocol.prompt_text import prompt_text
from app.protocol.request import Json
from tests.support.prompts import text_of

DOCUMENT = "".join(f"Line {number} of a long document.\n" for number in range(4_000))
BLOCKS = len(DOCUMENT) // BLOCK_BYTES
OTHER_DOCUMENTS = (DOCUMENT.upper(), DOCUMENT.title())
TOKENS = 30_000
ANSWER = "It is about lines."
A, B = "10.0.0.1:8000", "10.0.0.2:8000"


def prefix(*turns: str, tenant: str = "acme") -> Prefix:
    return prefix_of(text_of(*turns), tenant)


def trust_what_is_shared(memory: PrefixMemory) -> None:
    for _ in range(20):
        memory.learn(A, KnownPrefix(0.0, 1.0), TOKENS, TOKENS)


@pytest.fixture
def memory() -> PrefixMemory:
    return PrefixMemory(seconds=600, entries=10_000)


def expected(memory: PrefixMemory, *turns: str, now: float = 1.0, tenant: str = "acme") -> int:
    known = memory.known_at(prefix(*turns, tenant=tenant), now)
    return memory.most_cached_tokens(known, TOKENS)


def known_at(memory: PrefixMemory, prefix: Prefix, now: float, worker: str = A) -> KnownPrefix:
    return memory.known_at(prefix, now).get(worker, NOTHING_KNOWN)


def test_a_prompt_that_nobody_sent_is_cold(memory: PrefixMemory) -> None:
    assert expected(memory, DOCUMENT) == 0


def test_a_conversation_that_goes_on_is_warm_up_to_where_it_was(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    assert expected(memory, DOCUMENT, ANSWER, "Why?") > 0.99 * TOKENS
    half = expected(memory, DOCUMENT, ANSWER, DOCUMENT)
    assert half == pytest.approx(TOKENS / 2, rel=0.01)


def test_the_same_prompt_again_is_warm_but_for_a_token(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    assert expected(memory, DOCUMENT) == TOKENS - 1


def test_another_tenants_prompt_is_never_warm(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    assert expected(memory, DOCUMENT, tenant="other") == 0


def test_a_prompt_that_was_changed_at_its_beginning_is_cold(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    trust_what_is_shared(memory)
    assert expected(memory, "!" + DOCUMENT, ANSWER, "Why?") == 0


def test_it_is_forgotten_after_a_while_without_use(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    assert expected(memory, DOCUMENT, now=599.0) > 0
    assert expected(memory, DOCUMENT, now=600.0) == 0
    memory.remember(prefix(DOCUMENT), A, 599.0)
    assert expected(memory, DOCUMENT, now=1_000.0) > 0


def test_a_short_prompt_is_not_remembered(memory: PrefixMemory) -> None:
    short = prefix("x" * (MIN_PREFIX_BYTES - 100))
    memory.remember(short, A, 0.0)
    assert len(memory) == 0
    assert memory.known_at(short, 0.0) == {}


def test_a_tool_loop_with_many_results_is_still_the_same_conversation(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    assert expected(memory, DOCUMENT, *["result"] * 40) > 0.99 * TOKENS


# -- a beginning that is only shared: vLLM has no checkpoint there until it has seen two part


def test_what_is_only_shared_is_worth_nothing_until_a_worker_says_so(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT + "One question?"), A, 0.0)
    known = known_at(memory, prefix(DOCUMENT + "Another question?"), 1.0)
    assert (known.kept, known.shared > 0.9) == (0.0, True)
    assert memory.expected_cached_tokens(A, known, TOKENS) == 0
    for _ in range(20):
        memory.learn(A, known, TOKENS, TOKENS - 100)
    assert memory.expected_cached_tokens(A, known, TOKENS) > 0.9 * TOKENS


def test_the_third_prompt_that_shares_a_beginning_finds_a_checkpoint(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT + "One question?"), A, 0.0)
    memory.remember(prefix(DOCUMENT + "Another question?"), A, 1.0)
    assert expected(memory, DOCUMENT + "And a third?", now=2.0) > 0.9 * TOKENS


# -- trust


def test_trust_falls_where_workers_report_no_hits_and_rises_again(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    known = known_at(memory, prefix(DOCUMENT, ANSWER, "Why?"), 1.0)
    believed = []
    for cached in [0] * 20 + [TOKENS] * 20:
        memory.learn(A, known, TOKENS, cached)
        believed.append(memory.expected_cached_tokens(A, known, TOKENS))
    assert believed[:20] == sorted(believed[:20], reverse=True)
    assert believed[19] < 0.02 * TOKENS
    assert believed[20:] == sorted(believed[20:])
    assert believed[-1] > 0.95 * TOKENS


def test_a_prompt_of_which_nothing_was_known_says_nothing_about_trust(
    memory: PrefixMemory,
) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    memory.learn(A, NOTHING_KNOWN, TOKENS, 0)
    assert memory.trust_in(A) == Trust(1.0, 0.0)


def test_what_one_worker_reports_is_not_held_against_another(memory: PrefixMemory) -> None:
    for worker in (A, B):
        memory.remember(prefix(DOCUMENT), worker, 0.0)
    follow_up = prefix(DOCUMENT, ANSWER, "Why?")
    for _ in range(20):
        memory.learn(A, known_at(memory, follow_up, 1.0), TOKENS, 0)
    known = memory.known_at(follow_up, 1.0)
    assert memory.expected_cached_tokens(A, known[A], TOKENS) < 0.02 * TOKENS
    assert memory.expected_cached_tokens(B, known[B], TOKENS) > 0.99 * TOKENS


# -- which worker


def test_it_is_known_which_worker_read_what(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    memory.remember(prefix(OTHER_DOCUMENTS[0]), B, 0.0)
    assert set(memory.known_at(prefix(DOCUMENT, ANSWER, "Why?"), 1.0)) == {A}
    assert set(memory.known_at(prefix(OTHER_DOCUMENTS[0], ANSWER, "Why?"), 1.0)) == {B}


def test_the_worker_that_read_the_last_turn_knows_more(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), A, 0.0)
    memory.remember(prefix(DOCUMENT, ANSWER, DOCUMENT), B, 1.0)
    known = memory.known_at(prefix(DOCUMENT, ANSWER, DOCUMENT, ANSWER, "Why?"), 2.0)
    assert known[A].kept == pytest.approx(0.5, rel=0.01)
    assert known[B].kept > 0.99


def test_where_prompts_part_is_known_of_the_worker_that_read_both(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT + "One question?"), A, 0.0)
    memory.remember(prefix(DOCUMENT + "Another question?"), B, 1.0)
    third = prefix(DOCUMENT + "And a third?")
    assert [known.kept for known in memory.known_at(third, 2.0).values()] == [0.0, 0.0]
    memory.remember(third, B, 2.0)
    fourth = memory.known_at(prefix(DOCUMENT + "A fourth one?"), 3.0)
    assert (fourth[A].kept, fourth[B].kept > 0.9) == (0.0, True)


def test_what_a_worker_did_not_have_is_forgotten_of_it_alone(memory: PrefixMemory) -> None:
    for worker in (A, B):
        memory.remember(prefix(DOCUMENT), worker, 0.0)
    follow_up = prefix(DOCUMENT, ANSWER, "Why?")
    memory.forget(follow_up, A)
    assert set(memory.known_at(follow_up, 1.0)) == {B}
    memory.remember(follow_up, A, 1.0)
    assert known_at(memory, prefix(DOCUMENT, ANSWER, "Why?", ANSWER, "How?"), 2.0).kept > 0.99


def test_a_worker_that_was_restarted_has_nothing(memory: PrefixMemory) -> None:
    for worker in (A, B):
        memory.remember(prefix(DOCUMENT), worker, 0.0)
    memory.forget_worker(A)
    assert set(memory.known_at(prefix(DOCUMENT), 1.0)) == {B}
    memory.remember(prefix(OTHER_DOCUMENTS[0]), A, 1.0)
    assert set(memory.known_at(prefix(DOCUMENT), 2.0)) == {B}


def test_a_worker_of_which_nothing_is_known_can_be_forgotten(memory: PrefixMemory) -> None:
    memory.forget_worker(A)
    memory.forget(prefix(DOCUMENT), A)
    memory.learn(A, KnownPrefix(0.5, 0.5), TOKENS, 0)
    assert memory.trust_in(A) == Trust()


# -- what agents send


def turns_of_an_agent(turns: int, results_at_once: int) -> list[list[Json]]:
    """The messages of each request: the model calls tools, and is sent their results."""
    messages: list[Json] = [
        {"role": "system", "content": DOCUMENT[:20_000]},
        {"role": "user", "content": "Find the defect. " + DOCUMENT[20_000:40_000]},
    ]
    requests: list[list[Json]] = []
    for turn in range(turns):
        requests.append(list(messages))
        ids = [f"call_{turn}_{number}" for number in range(results_at_once)]
        call = {"name": "read_file", "arguments": f'{{"at":{turn}}}'}
        calls = [{"id": each, "type": "function", "function": call} for each in ids]
        messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        result = f"{turn}: {DOCUMENT[:1_500]}"
        messages += [{"role": "tool", "content": result, "tool_call_id": each} for each in ids]
    return requests


TOOLS = [{"type": "function", "function": {"name": "read_file", "parameters": {}}}]


def agents_prefix(messages: list[Json]) -> Prefix:
    return prefix_of(prompt_text({"messages": messages, "tools": TOOLS}), "acme")


@pytest.mark.parametrize("results_at_once", [1, 8])
def test_the_worker_of_a_growing_conversation_is_found_at_every_turn(
    memory: PrefixMemory, results_at_once: int
) -> None:
    first, *later = map(agents_prefix, turns_of_an_agent(50, results_at_once))
    memory.remember(first, A, 0.0)
    before = first
    for now, prompt in enumerate(later):
        known = memory.known_at(prompt, float(now))
        assert set(known) == {A}
        assert known[A].kept == before.text_bytes / prompt.text_bytes
        memory.remember(prompt, A, float(now))
        before = prompt


def edited(messages: list[Json], at: int) -> Prefix:
    return agents_prefix([*messages[:at], messages[at] | {"content": "-"}, *messages[at + 1 :]])


def test_a_history_that_was_edited_is_known_up_to_the_turn_before(memory: PrefixMemory) -> None:
    requests = turns_of_an_agent(50, 2)
    for now, messages in enumerate(requests):
        memory.remember(agents_prefix(messages), A, float(now))
    last_of_40 = len(requests[40]) - 1
    prompt = edited(requests[-1], last_of_40)
    before = agents_prefix(requests[39])
    assert known_at(memory, prompt, 60.0).kept == before.text_bytes / prompt.text_bytes


def test_of_a_history_that_was_edited_long_ago_only_the_beginning_is_known(
    memory: PrefixMemory,
) -> None:
    requests = turns_of_an_agent(50, 2)
    for now, messages in enumerate(requests):
        memory.remember(agents_prefix(messages), A, float(now))
    prompt = edited(requests[-1], len(requests[10]) - 1)
    known = known_at(memory, prompt, 60.0)
    before = agents_prefix(requests[10][:-1]).text_bytes
    assert known.kept == 0.0
    assert before - BLOCK_BYTES < known.shared * prompt.text_bytes <= before


def test_two_agents_with_the_same_tools_and_system_text_are_told_apart(
    memory: PrefixMemory,
) -> None:
    messages = turns_of_an_agent(2, 1)[1]
    memory.remember(agents_prefix(messages), A, 0.0)
    other = [messages[0], {"role": "user", "content": "Write a test. " + DOCUMENT[:20_000]}]
    known = known_at(memory, agents_prefix(other), 1.0)
    assert known.kept == 0.0
    assert 0.3 < known.shared < 0.6


# -- bounds


def test_entries_are_bounded_and_the_ends_of_old_prompts_go_first() -> None:
    memory = PrefixMemory(seconds=600, entries=3 * BLOCKS // 2)
    memory.remember(prefix(DOCUMENT), A, 0.0)
    memory.remember(prefix(OTHER_DOCUMENTS[0]), A, 1.0)
    assert len(memory) == 3 * BLOCKS // 2
    old = known_at(memory, prefix(DOCUMENT), 2.0)
    assert old.kept == 0.0
    assert 0.3 < old.shared < 0.7
    assert known_at(memory, prefix(OTHER_DOCUMENTS[0]), 2.0).kept == 1.0


def test_the_bound_holds_for_all_workers_together() -> None:
    memory = PrefixMemory(seconds=600, entries=3 * BLOCKS // 2)
    memory.remember(prefix(DOCUMENT), A, 0.0)
    memory.remember(prefix(DOCUMENT), B, 1.0)
    assert len(memory) == 3 * BLOCKS // 2
    known = memory.known_at(prefix(DOCUMENT), 2.0)
    assert (known[A].kept, known[B].kept) == (0.0, 1.0)


def test_what_was_used_least_lately_makes_room() -> None:
    memory = PrefixMemory(seconds=600, entries=2 * (BLOCKS + 1))
    for now, document in enumerate((DOCUMENT, OTHER_DOCUMENTS[0], DOCUMENT, OTHER_DOCUMENTS[1])):
        memory.remember(prefix(document), A, float(now))
    assert known_at(memory, prefix(DOCUMENT), 5.0).kept == 1.0
    assert known_at(memory, prefix(OTHER_DOCUMENTS[1]), 5.0).kept == 1.0
    assert known_at(memory, prefix(OTHER_DOCUMENTS[0]), 5.0) == NOTHING_KNOWN
