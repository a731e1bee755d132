"""The laws of the estimate, whatever is sent and whatever workers report."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.token_estimate import (
    MAX_CORRECTION,
    MIN_LEARNED_TOKENS,
    REPORTS_KEPT,
    Script,
    TokenEstimates,
    profile_of,
)
from tests.support.prompts import WORDS, text_of

laws = settings(max_examples=200, deadline=None)

reports = st.integers(0, 2**63 - 1)
texts = st.text(max_size=200).flatmap(
    lambda text: st.integers(1, 300).map(lambda times: text * times)
)


@st.composite
def texts_of_one_script(draw: st.DrawFn, script: Script) -> str:
    """Words of its letters, with spaces and punctuation as texts have them; so many that the names
    of roles beside them are few."""
    words = st.text(st.sampled_from(WORDS[script]), min_size=3, max_size=12)
    drawn = draw(st.lists(words, min_size=10, max_size=20))
    return draw(st.sampled_from([" ", ", ", ".\n"])).join(drawn) * draw(st.integers(1, 400))


@laws
@given(st.data(), st.sampled_from(list(Script)))
def test_texts_of_one_script_are_of_it_together(data: st.DataObject, script: Script) -> None:
    first, second = (data.draw(texts_of_one_script(script)) for _ in range(2))
    assert profile_of(text_of(first)).script is script
    assert profile_of(text_of(first + second)).script is script
    assert profile_of(text_of(first, second)).script is script


@laws
@given(texts, st.lists(reports, max_size=20))
def test_an_estimate_is_bounded_by_the_text_and_by_the_correction(
    text: str, told: list[int]
) -> None:
    estimates = TokenEstimates(max_keys=4)
    profile = profile_of(text_of(text))
    for tokens in told:
        estimates.learn("key", profile, tokens)
    estimate = estimates.estimate("key", profile)
    assert 1 <= estimate <= profile.template_tokens + profile.text_bytes
    assert 1 / MAX_CORRECTION <= estimates.correction("key", profile.script) <= MAX_CORRECTION
    prior = profile.text_tokens
    assert estimate - profile.template_tokens >= min(prior, profile.text_bytes) / MAX_CORRECTION - 1
    assert estimate - profile.template_tokens <= prior * MAX_CORRECTION + 1


@laws
@given(
    texts,
    st.floats(1 / MAX_CORRECTION, MAX_CORRECTION),
    st.lists(reports, max_size=30),
)
def test_it_converges_to_what_is_reported_again_and_again(
    text: str, factor: float, before: list[int]
) -> None:
    """After as many reports as are a majority, whatever came before."""
    estimates = TokenEstimates(max_keys=4)
    profile = profile_of(text_of(text))
    if profile.text_tokens < MIN_LEARNED_TOKENS:
        return
    true = profile.template_tokens + round(min(profile.text_tokens * factor, profile.text_bytes))
    for tokens in before:
        estimates.learn("key", profile, tokens)
    for _ in range(REPORTS_KEPT // 2 + 1):
        estimates.learn("key", profile, true)
    assert math.isclose(estimates.estimate("key", profile), true, rel_tol=0.02, abs_tol=2)


@laws
@given(st.lists(st.tuples(st.sampled_from("abcdef"), texts, reports), max_size=40))
def test_keys_are_bounded_and_apart(told: list[tuple[str, str, int]]) -> None:
    estimates = TokenEstimates(max_keys=3)
    for key, text, tokens in told:
        estimates.learn(key, profile_of(text_of(text)), tokens)
        assert estimates.keys <= 3
    profile = profile_of(text_of("word " * 100))
    assert estimates.estimate("g", profile) == TokenEstimates(max_keys=1).estimate("g", profile)
