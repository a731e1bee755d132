"""Every rule that ships, against texts that it has to cut and texts that it has to leave."""

import json
import re

import pytest

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.pattern import inspect_class
from app.protocol.filters.rule import Action, Rule
from app.protocol.filters.text_filter import TextFilter
from tests.rules.shipped import PACKS, Example, Finder, document, examples, shipped_rules

RULES = shipped_rules()
EXAMPLES = examples()
# What streams may hold back because of one rule. An address of mail is what needs the most.
MOST_BOUND_CHARACTERS = 300
# Rules whose look-behinds read alike are looked for together.
LOOK_BEHINDS = {"(?<![A-Za-z0-9_])", "(?<![A-Za-z0-9])"}

each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def positives(rule: Rule) -> list[Example]:
    return [example for example in EXAMPLES[rule.id] if example.spans]


def negatives(rule: Rule) -> list[Example]:
    return [example for example in EXAMPLES[rule.id] if not example.spans]


def filtered(rules: FilterRules, *pieces: str) -> str:
    text_filter = TextFilter(rules)
    shown = [text_filter.feed(piece) for piece in pieces]
    return "".join([*shown, text_filter.close()])


def test_every_rule_has_ten_examples_of_each_kind_and_no_others_have_any() -> None:
    assert set(EXAMPLES) == set(RULES)
    for rule in RULES.values():
        assert len({example.text for example in positives(rule)}) >= 10, rule.id
        assert len({example.text for example in negatives(rule)}) >= 10, rule.id


@each_rule
def test_a_rule_cuts_exactly_what_is_marked(rule: Rule) -> None:
    finder = Finder(rule)
    for example in positives(rule):
        assert finder.spans(example.text) == list(example.spans), example.text


@each_rule
def test_a_rule_leaves_what_only_looks_like_it(rule: Rule) -> None:
    finder = Finder(rule)
    for example in negatives(rule):
        assert finder.spans(example.text) == [], example.text


@each_rule
def test_a_stream_is_masked_in_the_same_places_wherever_it_is_cut(rule: Rule) -> None:
    rules = FilterRules([(rule, Action.MASK)])
    for example in positives(rule):
        masked = example.masked(rule.replacement)
        for place in range(len(example.text) + 1):
            pieces = (example.text[:place], example.text[place:])
            assert filtered(rules, *pieces) == masked, pieces


@each_rule
def test_a_stream_that_only_looks_like_a_match_comes_out_as_it_is(rule: Rule) -> None:
    rules = FilterRules([(rule, Action.MASK)])
    for example in negatives(rule):
        assert filtered(rules, example.text) == example.text
        assert filtered(rules, *example.text) == example.text


def test_with_every_rule_at_once_nothing_that_is_marked_goes_out() -> None:
    rules = FilterRules([(rule, Action.MASK) for rule in RULES.values()])
    for rule in RULES.values():
        for example in positives(rule):
            middle = sum(example.spans[0]) // 2
            shown = filtered(rules, example.text[:middle], example.text[middle:])
            for start, end in example.spans:
                assert example.text[start:end] not in shown, shown


@each_rule
def test_a_rule_holds_little_back_and_begins_like_others(rule: Rule) -> None:
    assert rule.bound <= MOST_BOUND_CHARACTERS
    leading = re.match(r"\(\?<![^)]*\)", rule.pattern)
    assert leading is None or leading[0] in LOOK_BEHINDS
    if leading is None:  # then a boundary on its left needs none
        assert rule.firsts is not None
        assert not any(first.isalnum() or first == "_" for first in rule.firsts) or (
            rule.id == "secrets.putty-key"
        )
    if rule.then is not None:
        inspect_class(rule.then)


@each_rule
def test_a_replacement_can_stand_in_json_and_in_place_of_a_match(rule: Rule) -> None:
    # Nothing in its place would let what stands on both sides of a match become another one.
    assert rule.replacement
    assert json.dumps(rule.replacement) == f'"{rule.replacement}"'
    assert all(Finder(other).spans(rule.replacement) == [] for other in RULES.values())


def test_ids_are_unique_and_well_formed() -> None:
    for pack in PACKS:
        loaded = document(pack)
        ids = [entry["id"] for entry in loaded["rules"]]
        assert loaded["pack"] == pack
        assert loaded["description"]
        assert len(ids) == len(set(ids))
        assert all(re.fullmatch("[a-z0-9-]{1,48}", rule_id) for rule_id in ids)
        assert all(entry["description"] for entry in loaded["rules"])


def test_profiles_name_what_there_is() -> None:
    profiles = document("profiles")["profiles"]
    assert set(profiles) == {"default", "strict", "secrets-only", "dry-run", "off"}
    for profile in profiles.values():
        assert set(profile) <= {"output", "input", "domains", "dry_run"}
        for direction, actions in (("output", "block"), ("input", "refuse")):
            for name, action in profile.get(direction, {}).items():
                assert name in PACKS or name in RULES
                assert action in {"mask", "flag", "off", actions}


def test_every_pack_is_on_in_the_default_profile() -> None:
    output = document("profiles")["profiles"]["default"]["output"]
    assert {output[pack] for pack in PACKS} == {"mask"}
