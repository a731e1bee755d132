"""How terms are found and weighed, on small lexicons; and that cutting changes nothing."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.domains import (
    MAX_AGAINST,
    MAX_VERDICT_TERMS,
    MAX_WEAK,
    WINDOW_WORDS,
    Domain,
    Lexicon,
    Term,
    Verdict,
)

FINANCE, LAW, MEDICAL = Domain.FINANCE, Domain.LAW, Domain.MEDICAL
FILLER = "mellow "  # no lexicon knows it


def lexicon(threshold: float = 2.0, **domains: dict[str, float]) -> Lexicon:
    terms = {
        Domain(name): [Term(tuple(words.split()), weight) for words, weight in weights.items()]
        for name, weights in domains.items()
    }
    return Lexicon(terms, dict.fromkeys(terms, threshold))


def score(lexicon: Lexicon, *texts: str, domain: Domain = MEDICAL) -> float:
    verdict = lexicon.classify(texts).get(domain)
    return 0.0 if verdict is None else verdict.score


ILLNESS = lexicon(
    0.1,
    medical={"chest pain": 2.0, "pain*": 1.0, "fever": 1.5, "drug": 1.0, "# mg": 1.2, "a1c": 1.1},
)


def test_a_domain_is_named_from_its_threshold_on_with_the_terms_that_decided() -> None:
    classifier = lexicon(2.5, medical={"fever": 1.5, "cough*": 1.0, "rash": 1.0}, law={"sue": 2.5})
    assert classifier.classify(["fever, and coughing"]) == {
        MEDICAL: Verdict(2.5, ("fever", "cough*"))
    }
    assert classifier.classify(["coughing, and a rash"]) == {}
    assert set(classifier.classify(["fever, rash: whom do I sue?"])) == {MEDICAL, LAW}


def test_the_terms_named_are_the_weightiest_and_few() -> None:
    classifier = lexicon(1.0, medical={f"w{'x' * n}": 1.0 + n / 10 for n in range(12)})
    verdict = classifier.classify([" ".join(f"w{'x' * n}" for n in range(12))])[MEDICAL]
    assert len(verdict.terms) == MAX_VERDICT_TERMS
    assert verdict.terms[0] == "w" + "x" * 11


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CHEST PAIN", 2.0),
        ("chest-pain", 2.0),
        ("chest_pain", 2.0),
        ("chest/pain", 2.0),
        ("$40 mg", 1.2),
        ("my chest: pain", 2.0),
        ("ｃｈｅｓｔ　ｐａｉｎ", 2.0),  # noqa: RUF001 - full width
        ("сhеst раin", 2.0),  # noqa: RUF001 - Cyrillic
        ("ch\u200best pa\u00adin", 2.0),
        ("chést pain\u0301", 2.0),
        ("painful", 1.0),
        ("drugs", 1.0),
        ("drugstore", 0.0),
        ("40mg", 1.2),
        ("some 40 mg", 1.2),
        ("mg", 0.0),
        ("HbA1c, A1C", 1.1),
        ("chestpain", 0.0),
        ("chest no pain", 1.0),
        ("", 0.0),
    ],
)
def test_words_are_read_as_they_are_meant(text: str, expected: float) -> None:
    assert score(ILLNESS, text) == expected


def test_a_plural_with_a_meaning_of_its_own_is_kept() -> None:
    rights = lexicon(1.0, law={"rights": 1.0})
    assert score(rights, "my rights", domain=LAW) == 1.0
    assert score(rights, "turn right", domain=LAW) == 0.0


def test_the_longest_term_hides_those_in_it() -> None:
    stocks = lexicon(0.1, finance={"stock": 1.0, "stock photo": 0.0, "photo tax": 2.0, "tax": 1.0})
    assert score(stocks, "a stock photo", domain=FINANCE) == 0.0
    assert score(stocks, "stock, and a stock photo", domain=FINANCE) == 1.0
    assert score(stocks, "stock photo tax", domain=FINANCE) == 1.0  # the first one took "photo"


def test_domains_do_not_hide_each_others_words() -> None:
    both = lexicon(0.1, medical={"drug": 1.0}, law={"drug dealer": 1.0})
    assert set(both.classify(["a drug dealer"])) == {MEDICAL, LAW}


def test_what_is_said_again_counts_once() -> None:
    assert score(ILLNESS, "fever " * 50) == 1.5


def test_a_long_text_does_not_add_up() -> None:
    apart = "fever " + FILLER * WINDOW_WORDS + "pain"
    assert score(ILLNESS, apart) == 1.5
    assert score(ILLNESS, "fever " + FILLER * (WINDOW_WORDS - 2) + "pain") == 2.5


def test_a_question_is_seen_within_a_long_text_and_across_messages() -> None:
    assert score(ILLNESS, FILLER * 5_000 + "fever and pain" + FILLER * 5_000) == 2.5
    assert score(ILLNESS, "fever", "and pain") == 2.5


def test_a_term_does_not_go_on_in_the_next_message() -> None:
    assert score(ILLNESS, "chest", "pain") == 1.0


def test_what_is_said_everywhere_never_decides_alone() -> None:
    weak = lexicon(0.1, medical={f"v{'y' * n}": 0.9 for n in range(9)})
    assert score(weak, " ".join(f"v{'y' * n}" for n in range(9))) == MAX_WEAK


def test_what_speaks_against_a_domain_takes_little_away() -> None:
    poems = lexicon(0.1, medical={"fever": 1.5, "pain": 2.0, "poem": -0.8, "rhyme": -0.8})
    assert score(poems, "a poem on fever") == 0.7
    assert score(poems, "a poem that should rhyme, on fever and pain") == 3.5 - MAX_AGAINST


def test_keys_digests_and_base64_hold_no_words() -> None:
    assert score(ILLNESS, "4f3fever2k4pain8z1a fever+9/pain4/drug8=fever+1a/7") == 0.0
    data = b64encode(b"".join(sha256(b"%d" % n).digest() for n in range(10_000))).decode()
    lines = "\n".join(data[at : at + 76] for at in range(0, len(data), 76))
    short = lexicon(0.1, medical={"er": 1.0, "gp": 1.0, "mri": 1.0, "uti": 1.0, "flu": 1.0})
    assert score(short, lines) == 0.0


@pytest.mark.parametrize("words", ["", "the", "one two three four five", "a1b2c3d4e", "*", "pa*n"])
def test_what_is_no_term_is_refused(words: str) -> None:
    with pytest.raises(ValueError):
        lexicon(medical={words: 1.0})


def test_two_weights_for_the_same_words_are_refused() -> None:
    with pytest.raises(ValueError, match="drug"):
        lexicon(medical={"drug": 1.0, "drugs": 2.0})


PARTS = [
    "fever",
    "chest",
    "pain",
    "painful",
    "drugs",
    "40",
    "mg",
    "the",
    "chest pain",
    "naïve",
    "é",
]
GAPS = [" ", "\n", ", ", "-", "_", "\u200b", "", ". "]
texts = st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(GAPS)), max_size=300).map(
    lambda pairs: "".join(part + gap for part, gap in pairs)
)
some = st.one_of(texts, st.text(max_size=500), st.text("ab \u0301\u200b9", max_size=500))


@settings(max_examples=200, deadline=None)
@given(some, st.integers(1, 400))
def test_a_verdict_does_not_depend_on_the_pieces_it_is_read_in(text: str, size: int) -> None:
    whole = ILLNESS.classify([text], piece_characters=len(text) + 1)
    assert ILLNESS.classify([text], piece_characters=size) == whole


@settings(max_examples=100, deadline=None)
@given(texts, st.integers(0, 300))
def test_harmless_words_around_a_text_change_nothing(text: str, count: int) -> None:
    around = FILLER * count
    assert ILLNESS.classify([f"{around} {text} {around}"]) == ILLNESS.classify([text])


def best_window(words: Sequence[str], weights: dict[str, float]) -> float:
    """As the docstring tells it, for terms of one word that are no weak ones."""
    windows = [words[max(0, end - WINDOW_WORDS) : end] for end in range(1, len(words) + 1)]
    return max((sum(weights[word] for word in set(window)) for window in windows), default=0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["red", "green", "blue", "mellow"]), max_size=400))
def test_the_score_is_that_of_the_best_window(words: list[str]) -> None:
    weights = {"red": 1.0, "green": 2.0, "blue": 4.0, "mellow": 0.0}
    assert score(lexicon(0.01, medical=weights), " ".join(words)) == best_window(words, weights)
