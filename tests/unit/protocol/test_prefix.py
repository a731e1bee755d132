"""Which prompts are warm, and how far that is believed."""

import pytest

from app.protocol.prefix import (
    BLOCK_BYTES,
    MIN_PREFIX_BYTES,
    KnownPrefix,
    Prefix,
    PrefixMemory,
    prefix_of,
)
from tests.support.prompts import text_of

DOCUMENT = "".join(f"Line {number} of a long document.\n" for number in range(4_000))
TOKENS = 30_000
ANSWER = "It is about lines."


def prefix(*turns: str, tenant: str = "acme") -> Prefix:
    return prefix_of(text_of(*turns), tenant)


@pytest.fixture
def memory() -> PrefixMemory:
    return PrefixMemory(seconds=600, entries=10_000)


def expected(memory: PrefixMemory, *turns: str, now: float = 1.0, tenant: str = "acme") -> int:
    known = memory.known(prefix(*turns, tenant=tenant), now)
    return memory.expected_cached_tokens(known, TOKENS)


def test_a_prompt_that_nobody_sent_is_cold(memory: PrefixMemory) -> None:
    assert expected(memory, DOCUMENT) == 0


def test_a_conversation_that_goes_on_is_warm_up_to_where_it_was(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    assert expected(memory, DOCUMENT, ANSWER, "Why?") > 0.99 * TOKENS
    half = expected(memory, DOCUMENT, ANSWER, DOCUMENT)
    assert half == pytest.approx(TOKENS / 2, rel=0.01)


def test_the_same_prompt_again_is_warm_but_for_a_token(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    assert expected(memory, DOCUMENT) == TOKENS - 1


def test_another_tenants_prompt_is_never_warm(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    assert expected(memory, DOCUMENT, tenant="other") == 0


def test_a_prompt_that_was_changed_at_its_beginning_is_cold(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    memory.shared_trust = 1.0
    assert expected(memory, "!" + DOCUMENT, ANSWER, "Why?") == 0


def test_it_is_forgotten_after_a_while_without_use(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    assert expected(memory, DOCUMENT, now=599.0) > 0
    assert expected(memory, DOCUMENT, now=600.0) == 0
    memory.remember(prefix(DOCUMENT), 599.0)
    assert expected(memory, DOCUMENT, now=1_000.0) > 0


def test_a_short_prompt_is_not_remembered(memory: PrefixMemory) -> None:
    short = prefix("x" * (MIN_PREFIX_BYTES - 100))
    memory.remember(short, 0.0)
    assert len(memory) == 0
    assert memory.known(short, 0.0) == KnownPrefix()


def test_a_tool_loop_with_many_results_is_still_the_same_conversation(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    assert expected(memory, DOCUMENT, *["result"] * 40) > 0.99 * TOKENS


# -- a beginning that is only shared: vLLM has no checkpoint there until it has seen two part


def test_what_is_only_shared_is_worth_nothing_until_a_worker_says_so(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT + "One question?"), 0.0)
    known = memory.known(prefix(DOCUMENT + "Another question?"), 1.0)
    assert (known.kept, known.shared > 0.9) == (0.0, True)
    assert memory.expected_cached_tokens(known, TOKENS) == 0
    for _ in range(20):
        memory.learn(known, TOKENS, TOKENS - 100)
    assert memory.expected_cached_tokens(known, TOKENS) > 0.9 * TOKENS


def test_the_third_prompt_that_shares_a_beginning_finds_a_checkpoint(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT + "One question?"), 0.0)
    memory.remember(prefix(DOCUMENT + "Another question?"), 1.0)
    assert expected(memory, DOCUMENT + "And a third?", now=2.0) > 0.9 * TOKENS


# -- trust


def test_trust_falls_where_workers_report_no_hits_and_rises_again(memory: PrefixMemory) -> None:
    memory.remember(prefix(DOCUMENT), 0.0)
    known = memory.known(prefix(DOCUMENT, ANSWER, "Why?"), 1.0)
    believed = []
    for cached in [0] * 20 + [TOKENS] * 20:
        memory.learn(known, TOKENS, cached)
        believed.append(memory.expected_cached_tokens(known, TOKENS))
    assert believed[:20] == sorted(believed[:20], reverse=True)
    assert believed[19] < 0.02 * TOKENS
    assert believed[20:] == sorted(believed[20:])
    assert believed[-1] > 0.95 * TOKENS


def test_a_prompt_of_which_nothing_was_known_says_nothing_about_trust(
    memory: PrefixMemory,
) -> None:
    memory.learn(KnownPrefix(), TOKENS, 0)
    assert (memory.kept_trust, memory.shared_trust) == (1.0, 0.0)


# -- bounds


BLOCKS = len(DOCUMENT) // BLOCK_BYTES
OTHER_DOCUMENTS = (DOCUMENT.upper(), DOCUMENT.title())


def test_entries_are_bounded_and_the_ends_of_old_prompts_go_first() -> None:
    memory = PrefixMemory(seconds=600, entries=3 * BLOCKS // 2)
    memory.remember(prefix(DOCUMENT), 0.0)
    memory.remember(prefix(OTHER_DOCUMENTS[0]), 1.0)
    assert len(memory) == 3 * BLOCKS // 2
    old = memory.known(prefix(DOCUMENT), 2.0)
    assert old.kept == 0.0
    assert 0.3 < old.shared < 0.7
    assert memory.known(prefix(OTHER_DOCUMENTS[0]), 2.0).kept == 1.0


def test_what_was_used_least_lately_makes_room() -> None:
    memory = PrefixMemory(seconds=600, entries=2 * (BLOCKS + 1))
    for now, document in enumerate((DOCUMENT, OTHER_DOCUMENTS[0], DOCUMENT, OTHER_DOCUMENTS[1])):
        memory.remember(prefix(document), float(now))
    assert memory.known(prefix(DOCUMENT), 5.0).kept == 1.0
    assert memory.known(prefix(OTHER_DOCUMENTS[1]), 5.0).kept == 1.0
    assert memory.known(prefix(OTHER_DOCUMENTS[0]), 5.0) == KnownPrefix()
