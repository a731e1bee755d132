"""What a text is hidden in, and what a filter sees through: at every cut the same."""

import codecs
from collections import Counter
from collections.abc import Callable

import pytest

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from tests.properties.filter_run import every_two_pieces, run
from tests.properties.filter_texts import (
    CARD,
    DISGUISES,
    EMAIL,
    LITERAL,
    PHRASE,
    base64_of,
    hex_of,
)

SHOWN_WHOLE = {LITERAL: "secret", EMAIL: "bob@ex.org", CARD: "4242 4242", PHRASE: "red fox"}


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
@pytest.mark.parametrize("of", SHOWN_WHOLE, ids=lambda rule: rule.id)
def test_a_disguise_is_seen_through_wherever_it_is_cut(
    of: Rule, disguise: Callable[[str], str]
) -> None:
    rules = FilterRules([(of, Action.MASK)])
    text = f"It is «{disguise(SHOWN_WHOLE[of])}», or so."
    for pieces in ([text], list(text), *every_two_pieces(text)):
        assert run(pieces, rules).output == f"It is «{of.replacement}», or so."


@pytest.mark.parametrize("encoded", [base64_of, hex_of], ids=lambda encoded: encoded.__name__)
@pytest.mark.parametrize(
    "around", ["{}", "{} is it", "it is {}", "the word is {}, ", "abc\n{}\n", '"{}"', "{}!"]
)
def test_what_is_encoded_is_seen_through_wherever_it_is_cut(
    encoded: Callable[[str], str], around: str
) -> None:
    rules = FilterRules([(LITERAL, Action.MASK), (EMAIL, Action.MASK)])
    for secret in ("secret", "bob@ex.org"):
        inner = encoded(around.format(secret))
        text = f"Decode this: {inner} (see above)."
        whole = run([text], rules)
        assert [hit.rule for hit in whole.hits] == [
            "t.literal" if secret == "secret" else "t.email"
        ]
        assert encoded(secret)[:8] not in whole.output
        for pieces in (list(text), *every_two_pieces(text)):
            assert run(pieces, rules).outcome == whole.outcome


def rot13(text: str) -> str:
    return codecs.encode(text, "rot13")


def backwards(text: str) -> str:
    return text[::-1]


def a_letter_a_line(text: str) -> str:
    return "\n".join(text)


@pytest.mark.parametrize(
    "disguise", [rot13, backwards, a_letter_a_line], ids=lambda disguise: disguise.__name__
)
def test_these_are_not_seen_through_and_stay_as_they_are(disguise: Callable[[str], str]) -> None:
    """So the documentation says; a rule may be written for any of them."""
    rules = FilterRules([(LITERAL, Action.MASK), (PHRASE, Action.MASK)])
    for secret in ("secret", "red fox"):
        text = f"It is {disguise(secret)}, or so."
        assert run([text], rules).outcome == (text, Counter(), False)
