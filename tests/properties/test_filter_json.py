"""Arguments of a tool call, filtered: JSON stays JSON, of the same shape, whatever it holds."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.json_filter import Blocked, filter_json
from app.protocol.filters.rule import Action
from tests.properties.filter_json_model import expected, parse, typed
from tests.properties.filter_texts import (
    CARD,
    DISGUISES,
    EMAIL,
    LITERAL,
    ORDINARY,
    Rules,
    rule_sets,
    texts,
)

laws = settings(max_examples=200, deadline=None)
RULES: Rules = [(LITERAL, Action.MASK), (EMAIL, Action.MASK), (CARD, Action.MASK)]
FILTER = FilterRules(RULES)


def filtered(text: str, rules: FilterRules) -> Any:
    """What comes out, parsed, each value with its type."""
    return typed(parse(filter_json(text, rules)[0]))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((4242, -4242, 42424242, 4244, 0)),
    st.floats(allow_nan=False, allow_infinity=False),
    texts(RULES),
    st.text(),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(texts(RULES) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
indents = st.sampled_from((None, 1))


@laws
@given(documents, st.booleans(), indents)
def test_every_string_is_filtered_and_the_shape_stays(
    document: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert filtered(text, FILTER) == typed(expected(parse(text), RULES))


@laws
@given(rule_sets.map(lambda rules: [(rule, Action.MASK) for rule, _ in rules]), st.data())
def test_so_it_is_with_any_rules(rules: Rules, data: st.DataObject) -> None:
    document = data.draw(st.lists(texts(rules), max_size=3))
    text = json.dumps({"a": document, "b": {value: value for value in document}})
    assert filtered(text, FilterRules(rules)) == typed(expected(parse(text), rules))


@laws
@given(documents, st.booleans())
def test_filtered_arguments_hold_no_match(document: Any, ascii_only: bool) -> None:
    shown, _ = filter_json(json.dumps(document, ensure_ascii=ascii_only), FILTER)
    assert "secret" not in shown


@laws
@given(documents)
def test_flags_change_nothing(document: Any) -> None:
    text = json.dumps(document)
    rules = FilterRules([(rule, Action.FLAG) for rule, _ in RULES])
    assert filtered(text, rules) == typed(parse(text))


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: disguise.__name__)
def test_a_disguise_in_a_string_is_seen_through(disguise: Callable[[str], str]) -> None:
    shown, _ = filter_json(json.dumps({"a": [f"so {disguise('bob@ex.org')}"]}), FILTER)
    assert json.loads(shown) == {"a": ["so [email]"]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('"\\u0073ecret"', '"[literal]"'),  # escaped as JSON escapes
        ('"s\\u200becret"', '"[literal]"'),
        ('{"secret": 1, "s\\u200becret": 2}', '{"[literal]": 1, "[literal]_": 2}'),
        ("[4242, 4242.0, -4242, 4244]", '["[card]", "[card].0", "-[card]", 4244]'),
        ('{"secret": 1, "[literal]": 2}', '{"[literal]": 1, "[literal]_": 2}'),
        ('["a\\\\", "secret"]', '["a\\\\", "[literal]"]'),
        ('["a\\"secret\\""]', '["a\\"[literal]\\""]'),
        ('["sec", "ret"]', '["sec", "ret"]'),  # no text goes on in another string
        ("[0.10, 123456789012345678901234567890, -0, 1E5]", None),
        ('["secret", 0.10, 1E5, -0]', '["[literal]", 0.1, 100000, 0]'),
        ('["secret", 12345678901234567890123]', '["[literal]", 12345678901234567890123]'),
        ("{}", None),
        ('""', None),
        (" [ ] ", None),
    ],
)
def test_it_reads_strings_and_numbers_as_json_does(text: str, shown: str | None) -> None:
    assert filtered(text, FILTER) == typed(parse(shown or text))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "secret", "a": "x"}', '{"a": 4242, "a": 1}', '{"b": {"a": "secret"}, "b": {}}',
        '{"secret": 1, "secret": 2}',
    ],
)  # fmt: skip
def test_a_member_that_another_of_its_name_follows_is_not_shown(text: str) -> None:
    """Whoever reads JSON takes the last; the first went out all the same."""
    shown, _ = filter_json(text, FILTER)
    assert json.loads(shown)
    assert "secret" not in shown
    assert "4242" not in shown


@pytest.mark.parametrize(
    "text", ['"secret', "[4242", "secret", '["\\ud83d secret"]', "[1e999]", ""]
)
def test_what_it_cannot_read_it_does_not_let_through(text: str) -> None:
    with pytest.raises(ValueError):
        filter_json(text, FILTER)


@pytest.mark.parametrize("text", ['["a", {"b": "secret"}]', '{"secret": 1}'])
def test_a_match_that_ends_an_answer_lets_nothing_of_its_arguments_through(text: str) -> None:
    with pytest.raises(Blocked):
        filter_json(text, FilterRules([(LITERAL, Action.BLOCK)]))


@given(st.lists(st.sampled_from(ORDINARY), max_size=8).map("".join))
def test_a_string_without_a_match_stays_as_it_is(text: str) -> None:
    rules, document = FilterRules([(LITERAL, Action.MASK)]), [text, {text: text}]
    assert json.loads(filter_json(json.dumps(document), rules)[0]) == document
