"""The laws of the warm prefix, under any order of prompts, times and reports."""

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.prefix import BLOCK_BYTES, ENDS_LOOKED_UP, PrefixMemory, prefix_of
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
        st.tuples(conversations, st.floats(0, 100), st.integers(0, 10**9), st.integers(0, 10**9)),
        max_size=25,
    )
)
def test_it_stays_within_its_bounds(
    events: list[tuple[tuple[str, list[str]], float, int, int]],
) -> None:
    memory = PrefixMemory(seconds=60, entries=20)
    now = 0.0
    seen: set[str] = set()
    for (tenant, said), pause, prompt_tokens, cached_tokens in events:
        now += pause
        prefix = prefix_of(text_of(*said), tenant)
        known = memory.known(prefix, now)
        assert 0 <= known.kept <= known.shared <= 1
        expected = memory.expected_cached_tokens(known, prompt_tokens + 1)
        assert 0 <= expected <= prompt_tokens
        if tenant not in seen:
            assert expected == 0
        memory.learn(known, prompt_tokens, cached_tokens)
        assert 0 <= memory.kept_trust <= 1
        assert 0 <= memory.shared_trust <= 1
        memory.remember(prefix, now)
        seen.add(tenant)
        assert len(memory) <= 20
