"""Long texts are read another way inside than tokens are; nobody may be able to tell."""

import random

import pytest

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from tests.properties import filter_model as model
from tests.properties.filter_run import run
from tests.properties.filter_texts import DISGUISES, EXAMPLES, RULES, rule

LONG_CHARACTERS = 1_000_000
ALL = FilterRules([(rule, Action.MASK) for rule in RULES])
SOME_FLAGGED = FilterRules(
    [(rule, (Action.MASK, Action.FLAG)[at % 2]) for at, rule in enumerate(RULES)]
)


def long_text(seed: int, characters: int = LONG_CHARACTERS) -> str:
    """Words of no meaning, with matches, near matches and disguises among them."""
    chance = random.Random(seed)
    own = [text for examples in EXAMPLES.values() for text in examples]
    words = ["lorem", "ipsum, ", "dolor. ", "\n\n", "1 000 ", "日本", "&", "%", "e\u0301"]
    parts, length = list[str](), 0
    while length < characters:
        part = chance.choice(words)
        if chance.random() < 0.03:
            part = chance.choice(own)
            if chance.random() < 0.3:
                part = chance.choice(DISGUISES)(part)
        parts.append(part + " " * chance.randrange(2))
        length += len(parts[-1])
    return "".join(parts)


def sliced(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize(
    ("characters", "size"), [(LONG_CHARACTERS, 65_537), (150_000, 16_384), (150_000, 1_023)]
)
def test_a_long_text_in_slices_is_no_other_text(characters: int, size: int) -> None:
    text = long_text(size, characters)
    assert run(sliced(text, size), ALL).outcome == run([text], ALL).outcome


def test_a_long_text_is_read_as_a_stream_of_tokens_is() -> None:
    """What narrows down where to look must find every place that a closer look would."""
    text = long_text(1, 60_000)
    assert run(sliced(text, 5), SOME_FLAGGED).outcome == run([text], SOME_FLAGGED).outcome


@pytest.mark.parametrize("of", RULES, ids=lambda rule: rule.id)
def test_one_match_in_a_long_text_is_found_among_many_rules(of: Rule) -> None:
    for secret in EXAMPLES[of]:
        for disguise in (str, *DISGUISES):
            text = f"{'so, ' * 1_000} {disguise(secret)} {', on' * 1_000}"
            for rules in (ALL, SOME_FLAGGED):
                assert run([text], rules).outcome == run(sliced(text, 50), rules).outcome


@pytest.mark.parametrize("of", RULES, ids=lambda rule: rule.id)
def test_a_match_on_the_edge_of_a_slice_is_found(of: Rule) -> None:
    rules, size = FilterRules([(of, Action.MASK)]), 16_384
    secret = next(
        text for text in EXAMPLES[of] if model.filtered(f" {text} ", [(of, Action.MASK)]).hits
    )
    for before in range(len(secret) + 1):
        text = "." * (size - before - 1) + f" {secret} " + "." * size
        expected = model.filtered(f". {secret} .", [(of, Action.MASK)]).output[1:-1]
        for pieces in ([text], sliced(text, size)):
            assert run(pieces, rules).output.strip(".") == expected


@pytest.mark.parametrize(
    "unit",
    [
        "secre",
        "tk-a0b",
        "4 2 ",
        "bob@ex",
        "<aaaaaaa",
        "qa",
        "red fo",
        "aba",
        "k:",
        "&#115;",
        "c2Vj",
    ],
)
def test_a_long_text_of_near_matches_is_read_to_its_end(unit: str) -> None:
    text = unit * (LONG_CHARACTERS // 10 // len(unit)) + " bob@ex.org "
    seen = run([text], ALL)
    assert seen.outcome == run(sliced(text, 10_007), ALL).outcome
    assert seen.output.endswith("[email] ")


@pytest.mark.parametrize(
    ("pattern", "match"),
    [("a{,3}b1", "aab1"), ("café{0,2}-[0-9]{4}", "caf-1234"), (r"name:\w{3,20}!", "name:नमस्ते!")],
)
def test_what_another_engine_reads_otherwise_is_found_in_long_texts(
    pattern: str, match: str
) -> None:
    rules = FilterRules([(rule("odd", pattern, 32), Action.MASK)])
    text = f"{'x ' * 3_000}{match} x"
    assert run([text], rules).output == text.replace(match, "[odd]")


def test_a_look_behind_within_a_pattern_is_asked_in_its_place() -> None:
    rules = FilterRules([(rule("odd", "(?!(?<!a)b)b1", 3, behind=1), Action.MASK)])
    assert run(["ab1x"], rules).output == "a[odd]x"
