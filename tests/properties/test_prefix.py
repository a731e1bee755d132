"""The laws of the warm prefix, under any order of prompts, times and reports."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.prefix import (
    BLOCK_BYTES,
    ENDS_LOOKED_UP,
    NOTHING_KNOWN,
    PrefixMemory,
    prefix_of,
)
from app.protocol.prompt_text import PromptText
from tests.support.prompts import text_of

laws = settings(max_examples=100, deadline=None)

turns = st.lists(
    st.tuples(st.sampled_from(["a", "b", "né", "語"]), st.integers(0, 30_000)).map(
        lambda part: part[0] * part[1]
    ),
    min_size=1,
    max_size=5,
)
workers = st.sampled_from(["10.0.0.1:8000", "10.0.0.2:8000"])
tokens = st.integers(0, 10**9)
ENTRIES = 20
conversations = st.tuples(st.sampled_from(["acme", "other"]), turns)


@laws
@given(turns, st.data())
def test_it_does_not_depend_on_how_the_text_was_cut(said: list[str], data: st.DataObject) -> None:
    text = text_of(*said)
    pieces: list[tuple[bytes, ...]] = []
    for section in text.sections:
        whole = b"".join(section)
        at = data.draw(st.integers(0, len(whole)))
        pieces.append((whole[:at], whole[at:]))
    cut = PromptText(tuple(pieces), text.section_bytes, text.text_bytes)
    assert prefix_of(cut, "acme") == prefix_of(text, "acme")


@laws
@given(turns, turns)
def test_what_goes_on_begins_with_the_same_blocks(said: list[str], more: list[str]) -> None:
    before = prefix_of(text_of(*said), "acme")
    after = prefix_of(text_of(*said, *more), "acme")
    assert after.blocks[: len(before.blocks)] == before.blocks
    if before.ends:
        assert before.ends[-1] in after.ends
    assert len(after.blocks) in (0, after.text_bytes // BLOCK_BYTES)
    assert len(after.ends) <= ENDS_LOOKED_UP


@laws
@given(
    st.lists(
        st.tuples(conversations, workers, st.floats(0, 100), tokens, tokens),
        max_size=25,
    )
)
def test_it_stays_within_its_bounds(
    events: list[tuple[tuple[str, list[str]], str, float, int, int]],
) -> None:
    memory = PrefixMemory(seconds=60, entries=ENTRIES)
    now = 0.0
    seen: set[tuple[str, str]] = set()
    for (tenant, said), worker, pause, prompt_tokens, cached_tokens in events:
        now += pause
        prefix = prefix_of(text_of(*said), tenant)
        known = memory.known_at(prefix, now)
        assert all(0 <= part.kept <= part.shared <= 1 for part in known.values())
        expected = memory.most_cached_tokens(known, prompt_tokens + 1)
        assert 0 <= expected <= prompt_tokens
        assert all((tenant, name) in seen for name in known)
        part = known.get(worker, NOTHING_KNOWN)
        memory.learn(worker, part, prompt_tokens, cached_tokens)
        if not cached_tokens:
            memory.forget(prefix, worker)
            assert worker not in memory.known_at(prefix, now)
        trust = memory.trust_in(worker)
        assert 0 <= trust.kept <= 1
        assert 0 <= trust.shared <= 1
        memory.remember(prefix, worker, now)
        if prefix.ends and len(prefix.blocks) < ENTRIES:
            assert memory.known_at(prefix, now)[worker].kept == 1
        seen.add((tenant, worker))
        assert len(memory) <= ENTRIES
