"""The laws of the filter: what leaves it does not depend on how the text came, is what a reader who
sees all of it at once would let through, and never holds a part of a match."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.protocol.filters.text_filter import TextFilter
from tests.properties import filter_model as model
from tests.properties.cutting import cut, cuts
from tests.properties.filter_run import Run, every_two_pieces, run
from tests.properties.filter_texts import (
    CARD,
    EMAIL,
    EXAMPLES,
    LITERAL,
    ORDINARY,
    PHRASE,
    RULES,
    TOKEN,
    Rules,
    full_width,
    generated_rules,
    rule,
    rule_sets,
    small_texts,
    texts,
)

laws = settings(max_examples=200, deadline=None)


@st.composite
def rules_and_texts(draw: st.DrawFn) -> tuple[Rules, str]:
    rules = draw(rule_sets)
    return rules, draw(texts(rules))


@st.composite
def rules_and_encoded_texts(draw: st.DrawFn) -> tuple[Rules, str]:
    rules = draw(rule_sets)
    return rules, draw(texts(rules, encoded=True))


@st.composite
def generated_rules_and_texts(draw: st.DrawFn) -> tuple[Rules, str]:
    return draw(generated_rules()), draw(small_texts)


either = rules_and_texts() | generated_rules_and_texts()
cases = either | rules_and_encoded_texts()


# -- cuts


@laws
@given(cases, cuts)
def test_what_leaves_does_not_depend_on_the_cut(case: tuple[Rules, str], at: list[int]) -> None:
    rules, text = FilterRules(case[0]), case[1]
    assert run(cut(text, at), rules).outcome == run([text], rules).outcome


@laws
@given(cases)
def test_one_character_at_a_time_is_no_other_text(case: tuple[Rules, str]) -> None:
    rules, text = FilterRules(case[0]), case[1]
    assert run(list(text), rules).outcome == run([text], rules).outcome


@settings(max_examples=60, deadline=None)
@given(cases)
def test_in_two_pieces_it_is_no_other_text_wherever_it_is_cut(case: tuple[Rules, str]) -> None:
    rules, text = FilterRules(case[0]), case[1]
    whole = run([text], rules).outcome
    for pieces in every_two_pieces(text):
        assert run(pieces, rules).outcome == whole


# -- meaning


def as_read_at_once(case: tuple[Rules, str], seen: Run) -> None:
    expected = model.filtered(case[1], case[0])
    assert (seen.output, seen.blocked) == (expected.output, expected.blocked)
    assert frozenset(seen.hits) == expected.hits
    assert set(seen.hits.values()) <= {1}  # each noted once, however many views show it


@laws
@given(rules_and_texts())
def test_it_is_what_a_reader_who_sees_it_all_lets_through(case: tuple[Rules, str]) -> None:
    as_read_at_once(case, run([case[1]], FilterRules(case[0])))


@settings(max_examples=400, deadline=None)
@given(generated_rules_and_texts(), cuts)
def test_so_it_is_with_any_pattern_at_all(case: tuple[Rules, str], at: list[int]) -> None:
    as_read_at_once(case, run(cut(case[1], at), FilterRules(case[0])))


# -- nothing retracted, nothing shown


@laws
@given(cases, cuts)
def test_what_was_let_through_stays(case: tuple[Rules, str], at: list[int]) -> None:
    """Of every beginning of the text the same leaves while it may still go on; so an end that the
    text might take cannot have changed it."""
    rules, text = FilterRules(case[0]), case[1]
    whole, reader, shown = run([text], rules).output, TextFilter(rules), ""
    for piece in cut(text, at):
        shown += reader.feed(piece)
        assert whole.startswith(shown)


SECRETS: dict[Rule, tuple[str, ...]] = {
    rule("word", "SECRET", 6): ("SECRET",),
    rule("mail", r"(?<!\w)[A-Z]{1,8}@[A-Z]{1,8}(?!\w)", 18, behind=1): ("BOB@EX", "A@EXAMPLE"),
    rule("head", "TK_[A-Z]{4}", 7, then="[A-Z_]"): ("TK_ABCD", "TK_ABCDEF_GHIJK"),
    rule("either", "XYZ|XYZZY(?=Q)", 6): ("XYZ", "XYZ"),
    rule("lazy", "Z[A-Z]{1,5}?Z(?! )", 8): ("ZOOZ",),
}
shown_alphabet = st.text(alphabet="abc .@-_\u200b&%\\é", max_size=8)


@st.composite
def secrets_between(draw: st.DrawFn) -> tuple[str, str]:
    """What must not be seen is in capitals, and nothing else is. Second: all but the secrets."""
    text = rest = draw(shown_alphabet)
    for secret in draw(st.lists(st.sampled_from([s for each in SECRETS.values() for s in each]))):
        disguise = draw(st.sampled_from((str, full_width, "\u200b".join)))
        between = draw(shown_alphabet)
        text += f" {disguise(secret)}. {between}"
        rest += f" . {between}"
    return text, rest


@laws
@given(secrets_between(), st.lists(st.sampled_from((Action.MASK, Action.BLOCK)), min_size=5), cuts)
def test_no_character_of_a_match_is_ever_shown(
    case: tuple[str, str], actions: list[Action], at: list[int]
) -> None:
    rules = FilterRules(list(zip(SECRETS, actions, strict=False)))
    reader, shown = TextFilter(rules), ""
    for piece in cut(case[0], at):
        shown += reader.feed(piece)
        assert not any(letter.isupper() for letter in shown)
    shown += reader.close()
    assert not any(letter.isupper() for letter in shown)
    if not reader.blocked:
        for secret in SECRETS:
            shown = shown.replace(secret.replacement, "")
        assert shown == case[1]


@pytest.mark.parametrize("of", [LITERAL, CARD, PHRASE, TOKEN], ids=lambda rule: rule.id)
def test_the_piece_that_would_complete_a_match_is_withheld(of: Rule) -> None:
    """All that stands before a match may leave, and nothing of it, up to its last character."""
    reader = TextFilter(FilterRules([(of, Action.MASK)]))
    secret = EXAMPLES[of][0]
    shown = reader.feed("So. ") + "".join(map(reader.feed, secret[:-1]))
    assert shown == "So. "
    assert reader.held == len(secret) - 1
    shown += reader.feed(secret[-1]) + reader.feed(".") + reader.close()
    assert shown == f"So. {of.replacement}."


def test_what_cannot_become_a_match_leaves_at_once() -> None:
    reader = TextFilter(FilterRules([(rule, Action.MASK) for rule in (LITERAL, PHRASE, TOKEN)]))
    for piece in (
        "So he",
        " is, ",
        "an ",
        "ordinary one",
        ": ",
        "no 4 2 on",
        ".\n",
        "日本",
        "é. ",
    ):
        assert reader.feed(piece) == piece


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        # Nothing to see was all there was of the text before.
        (["\x07", "secret"], "\x07[literal]"),
        (["\u200b", "secret"], "\u200b[literal]"),
        # The tail of a token: another match in it, in disguise, escaped, in pieces.
        (["tk-a0b1secretc2d4e0 x"], "[token] x"),
        (["tk-a0b1se", "cretc2", "d4e0 x"], "[token] x"),
        (["\uff54\uff4b-a0b1\uff43\uff12\u200bd4", "e0 x"], "[token] x"),
        (["tk-a0b1%6", "3%64 x"], "[token] x"),
        # One match as a reader sees it would be none: what is invisible parts the two.
        (["4 2 4 2 4 2 4 2\x074242"], "[card]\x07[card]"),
        (["4 2 4 2 4 2 4 2\u200b4242"], "[card]\u200b[card]"),
    ],
)
def test_what_was_shown_once_is_not_shown_again(pieces: list[str], shown: str) -> None:
    rules = FilterRules([(LITERAL, Action.MASK), (TOKEN, Action.MASK), (CARD, Action.MASK)])
    assert run(pieces, rules).output == shown


# -- bounds


@laws
@given(cases, cuts, st.integers(0, 400))
def test_an_end_leaves_nothing_held_and_a_filter_holds_no_more_than_it_says(
    case: tuple[Rules, str], at: list[int], end: int
) -> None:
    """`run` looks at what is held after each piece."""
    rules, text = FilterRules(case[0]), case[1]
    run(cut(text[:end], at), rules)


@pytest.mark.parametrize(
    "unit",
    [
        "<", "q", "s", "secre", "tk-", "tk-a0b1", "a", "ab", "4", "4 ", "4-", "b.", "red ", "k:",
        "x", "\u200b", "s\u200b", "\u0301", "&", "&#", "&#0", "&#x", "%", "%2", "\\", "\\u",
        "\\u0", "&a", "%73", "&#115;", "QUJD", "6162", "=", "A", "0", "_", "/", "+",
        "\uff41", "  ", "\n",
    ],
)  # fmt: skip
def test_a_beginning_over_and_over_does_not_fill_the_hold(unit: str) -> None:
    rules = FilterRules([(rule, Action.MASK) for rule in RULES])
    text = unit * (2 * rules.hold_characters // len(unit))
    seen = run([text[at : at + 7] for at in range(0, len(text), 7)], rules)
    assert seen.outcome == run([text], rules).outcome


# -- what must not change


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(ORDINARY), max_size=20).map("".join), cuts)
@example(
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\ufe0f a\u0301\u0308 \u05e9\u05dc & % \\ &#", [1]
)
@example(
    "\u202b\u05e9\u05dc\u05d5\u05dd\u202c 日本 &amp; %41 \\u0041 \u1112\u1161\u11ab \ufb01", [9]
)
@example("32 in a row: " + "\u200b" * 32 + ".", [3])
def test_a_text_that_holds_no_match_stays_as_it_is(text: str, at: list[int]) -> None:
    rules = FilterRules([(rule, Action.MASK) for rule in (LITERAL, EMAIL, CARD, PHRASE, TOKEN)])
    seen = run(cut(text, at), rules)
    assume(not seen.hits)
    assert seen.output == text


@given(st.integers(0, 200), st.sampled_from(("\u200b", "\u0301", "\ufe0f", "\U000e0041")), cuts)
def test_invisible_characters_in_a_row_are_cut_to_32(count: int, one: str, at: list[int]) -> None:
    rules = FilterRules([(LITERAL, Action.MASK)])
    text = f"a{one * count}b{one * count}"
    kept = one * min(count, 32)
    assert run(cut(text, at), rules).output == f"a{kept}b{kept}"


@given(st.integers(0, 2000), cuts)
def test_however_many_stand_in_a_match_they_hide_nothing(count: int, at: list[int]) -> None:
    rules = FilterRules([(LITERAL, Action.MASK)])
    text = "a sec" + "\u200b" * count + "ret b"
    assert run(cut(text, at), rules).output == "a [literal] b"


@laws
@given(either, cuts)
def test_a_flag_changes_nothing_and_holds_nothing_back(
    case: tuple[Rules, str], at: list[int]
) -> None:
    rules, text = [(rule, Action.FLAG) for rule, _ in case[0]], case[1]
    reader = TextFilter(FilterRules(rules))
    for piece in cut(text, at):
        assert reader.feed(piece) == piece
        assert reader.held == 0
    assert reader.close() == ""
    assert not reader.blocked
    assert frozenset(reader.hits) == model.filtered(text, rules).hits


@laws
@given(rules_and_texts(), cuts)
def test_rules_that_only_flag_do_not_change_what_the_others_do(
    case: tuple[Rules, str], at: list[int]
) -> None:
    rules, text = case
    enforced = [(rule, action) for rule, action in rules if action is not Action.FLAG]
    with_flags = run(cut(text, at), FilterRules(rules))
    without = run(cut(text, at), FilterRules(enforced))
    assert (with_flags.pieces, with_flags.blocked) == (without.pieces, without.blocked)


@laws
@given(rules_and_texts(), st.text(max_size=5))
def test_a_text_that_was_ended_stays_ended(case: tuple[Rules, str], more: str) -> None:
    rules = FilterRules([(rule, Action.BLOCK) for rule, _ in case[0]])
    reader = TextFilter(rules)
    shown = reader.feed(case[1])
    assume(reader.blocked)
    hits = list(reader.hits)
    assert case[1].startswith(shown)
    assert reader.feed(more) == reader.feed(EXAMPLES[case[0][0][0]][0]) == reader.close() == ""
    assert reader.hits == hits


def test_one_compiled_set_serves_several_texts_at_once() -> None:
    rules = FilterRules([(LITERAL, Action.MASK), (CARD, Action.BLOCK)])
    one, other = TextFilter(rules), TextFilter(rules)
    assert one.feed("a sec") + other.feed("ret ") + one.feed("ret 42") == "a ret [literal] "
    assert other.feed("4242 b") == ""
    assert one.close() == "42"
    assert other.blocked
    assert not one.blocked
    assert [hit.rule for hit in one.hits] == ["t.literal"]


# -- tails


A_TAIL = rule("a-tail", "a:[a-z]{4}", 6, then="[a-z.]")
B_TAIL = rule("b-tail", "b:[a-z]{4}", 6, then="[a-z-]")
tails = st.lists(
    st.sampled_from(("a:abcd", "b:abcd", "a:b:abcdefgh", "x", ".", "-", " ", "zzz")), max_size=8
)


@laws
@given(tails, cuts)
def test_tails_of_several_rules_do_not_depend_on_the_cut(words: list[str], at: list[int]) -> None:
    """Each of two hits goes on over characters of its own class, whichever came first."""
    rules, text = FilterRules([(B_TAIL, Action.MASK), (A_TAIL, Action.MASK)]), "".join(words)
    whole = run([text], rules).outcome
    assert run(cut(text, at), rules).outcome == whole
    assert run(list(text), rules).outcome == whole


def test_a_tail_that_goes_on_is_not_lost_to_an_earlier_hit() -> None:
    rules = FilterRules([(B_TAIL, Action.MASK), (A_TAIL, Action.MASK)])
    assert run(["b:abcd a:abcd", "efgh b:abcd", "ij-k ."], rules).output == (
        "[b-tail] [a-tail] [b-tail] ."
    )
