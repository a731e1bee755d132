"""What may be written as a pattern, what is known of it then, and why the rest is refused."""

from string import ascii_letters, digits

import pytest
import regex

from app.protocol.filters.ambiguity import MAX_STEPS, Backtracking
from app.protocol.filters.pattern import (
    MAX_BOUND_CHARACTERS,
    PatternRefused,
    Shape,
    inspect,
    inspect_class,
    letters,
    parse,
)
from app.protocol.filters.rule import BEYOND_ASCII

EMAIL = (
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9-])"
)
IBAN = r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?"
PASSWORD_IN_URL = r"[a-z][a-z0-9+.-]{1,15}://[^\s:/@]{1,64}:[^\s/@]{1,128}@"


def phrases(count: int, beginning: str = "") -> str:
    return "|".join(
        f"{beginning}phrase {number * 7919 % 1000} number {number} of many"
        for number in range(count)
    )


def refusal(pattern: str, *, ignore_case: bool = False) -> str:
    with pytest.raises(PatternRefused) as refused:
        inspect(pattern, ignore_case=ignore_case)
    return str(refused.value)


def steps(pattern: str) -> int:
    node = parse(pattern)
    return Backtracking(letters(node)).cost(node).steps


@pytest.mark.parametrize(
    ("pattern", "bound", "behind"),
    [
        ("abc", 3, 0),
        ("[ab]{2,5}c?", 6, 0),
        (EMAIL, 64 + 1 + 4 * 64 + 24 + 1, 1),
        (r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)", 38, 1),
        ("-----BEGIN (?:[A-Z]{2,12} ){0,3}PRIVATE KEY-----", 66, 0),
        (IBAN, 43, 0),
        (PASSWORD_IN_URL, 213, 0),
        ("a(?=bcd)", 4, 0),
        ("a(?!b{1,9})c", 10, 0),
        ("(?:a(?=bbbb)|b){1,3}", 7, 0),  # the last turn looks beyond what it takes
        ("(?:a{3}|b{1,7})c", 8, 0),
        ("(?<=abc)d", 1, 3),
        ("(?<=(?<!a)bc)d", 1, 3),  # it looks back from where it looks back to
        ("(?<=a(?=bc))b", 2, 1),
        ("a{1,3}+(?>b|bc)", 5, 0),
        (r"\x41\u0042\.\-\ ", 5, 0),
        ("a{,3}b", 4, 0),
        ("a{0}b", 1, 0),
    ],
)
def test_how_far_a_match_reaches(pattern: str, bound: int, behind: int) -> None:
    shape = inspect(pattern)

    assert (shape.bound, shape.behind) == (bound, behind)


@pytest.mark.parametrize(
    ("pattern", "firsts"),
    [
        ("abc", "a"),
        ("a?b?c", "abc"),
        ("(?:ab|cd|)e", "ace"),
        ("(?<!x)(?=[a-z])a{0,3}[b-]", "ab-"),
        (r"\d", "0123456789" + BEYOND_ASCII),
        ("(?:a{0}|b)c", "abc"),  # more than may be is allowed
        ("[0-9]", "0123456789"),
        ("é", BEYOND_ASCII),
        ("a|[\u4e00-\u9fff]", "a" + BEYOND_ASCII),
        ("(?i:s)", "sS" + BEYOND_ASCII),  # the long s
        ("(?i:\u017f)", "sS" + BEYOND_ASCII),
        ("(?i:a(?-i:b)|(?-i:b))", "aAb"),
    ],
)
def test_the_characters_that_a_match_may_begin_with(pattern: str, firsts: str) -> None:
    assert inspect(pattern).firsts == frozenset(firsts)


def test_case_is_ignored_for_the_whole_pattern_where_that_is_asked_for() -> None:
    assert inspect("note", ignore_case=True) == Shape(4, 0, frozenset("nN"))


def test_a_class_that_excludes_may_begin_with_all_the_rest() -> None:
    rest = {character for character in map(chr, range(128)) if regex.match(r"[^\s:]", character)}

    assert inspect(r"[^\s:]").firsts == rest | {BEYOND_ASCII}


@pytest.mark.parametrize("ignore_case", [False, True])
def test_whether_a_match_may_begin_beyond_ascii_is_known_for_every_character(
    ignore_case: bool,
) -> None:
    beyond = "".join(map(chr, range(0x80, 0x110000)))
    flags = regex.IGNORECASE if ignore_case else 0
    for atom in (
        *ascii_letters,
        *digits,
        r"\d",
        r"\w",
        r"\s",
        r"\S",
        ".",
        "[a-z]",
        "[^a]",
        "[à-ü]",
    ):
        firsts = inspect(atom, ignore_case=ignore_case).firsts
        assert firsts is not None
        assert (BEYOND_ASCII in firsts) == bool(regex.search(atom, beyond, flags=flags))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("ab+", "+ has no upper bound: give one, such as {1,64} (at character 3)"),
        ("a*", "* has no upper bound"),
        ("a*?", "* has no upper bound"),
        ("a{3,}", "{3,} has no upper bound: give one, such as {3,64}"),
        ("a{1025}", "repeats too often"),
        ("a{1,99999999999}", "repeats too often"),
        ("(?:a{1,100}b){11}", "may take 1111 characters; at most 1024"),
        ("a(?!b{1024})", "may take 1025 characters"),
        ("a?", "may match nothing at all"),
        ("(?:a|)", "may match nothing at all"),
        ("(?=a)", "may match nothing at all"),
        ("a(?:(?=b)){2}b", "what is repeated takes no characters"),
        ("(?:" * 30 + "a" + "){1,2}" * 30, "may take 1073741824 characters"),
        ("(?:" * 12 + "(?=a)" + "){2}" * 12 + "a", "what is repeated takes no characters"),
        ("ab|c|d)", "unbalanced parenthesis (at character 7)"),
        ("a(?!)", "what it looks at may be nothing"),
        ("a(?=b?)", "what it looks at may be nothing"),
        ("(?<!a{17})b", "looks back 17 characters; at most 16"),
        ("(?<=(?<=a{9})b{8})c", "looks back 17 characters"),
        ("(?<=a{1,3})b", "look-behind requires fixed-width pattern"),
        (r"(a)\1", r"\1 is not allowed: no back-references"),
        (r"a\0", r"\0 is not allowed"),
        ("^a", "^ is not allowed: where a text ends is not known while it streams"),
        ("a$", "$ is not allowed"),
        (r"\Aa", r"\A is not allowed: its answer at the end of a piece"),
        (r"a\Z", r"\Z is not allowed"),
        (r"a\z", r"\z is not allowed"),
        (r"\bword", r"\b is not allowed"),
        (r"a\Bb", r"\B is not allowed"),
        (r"\Ga", r"\G is not allowed"),
        (r"\X", r"\X is not allowed"),
        (r"\R", r"\R is not allowed"),
        (r"\p{L}", r"\p is not allowed"),
        (r"a\Kb", r"\K is not allowed"),
        (r"\ma", r"\m is not allowed"),
        (r"\N{BULLET}", r"\N is not allowed"),
        (r"\L<names>", r"\L is not allowed"),
        ("[\\b]", r"\b is not allowed (at character 2)"),
        ("(?P<name>a)", "named groups"),
        ("(?<name>a)", "named groups"),
        ("(a)(?P=name)", "named groups"),
        ("(a)?(?(1)b|c)", "conditionals are not allowed (at character 5)"),
        ("a(?R)", "recursion is not allowed"),
        ("a(?1)", "of the groups with a mark, these are allowed"),
        ("a(?&name)", "recursion is not allowed"),
        ("(?|(a)|(b))", "groups that share numbers"),
        ("(?#why)a", "comments are not allowed"),
        ("(?i)a", "of the groups with a mark"),
        ("(?x: a)", "of the groups with a mark"),
        ("(?a:a)", "of the groups with a mark"),
        ("a(*SKIP)b", "of the groups with a mark"),
        ("(?:word){e<=1}", "a brace that is no repeat must be written \\{ (at character 9)"),
        ("a{i}", "a brace that is no repeat"),
        ("a{1, 3}", "a brace that is no repeat"),
        ("a{,}", "a brace that is no repeat"),
        ("[[:alpha:]]", "a [ in a character class must be written \\["),
        ("[a[b]", "a [ in a character class"),
        ("[a--b]", "-- in a character class must be written \\-\\-"),
        ("[a&&b]", "&& in a character class"),
        ("[]a]", "a ] in a character class must be written \\]"),
        ("[a", "the character class is not closed (at character 1)"),
        ("[z-a]", "it is not a pattern: bad character range z-a"),
        ("(a", "it is not a pattern: missing ), unterminated subpattern"),
        ("a)", "it is not a pattern: unbalanced parenthesis (at character 2)"),
        ("a{1,2}{3}", "multiple repeat"),
        ("a\\", "a backslash at the end"),
        (r"\x4", "incomplete escape"),
        ("(?:a{1,2}){2}+", "must be written (?>(?:...){1,9})"),
        ("(?:" * 33 + "a" + ")" * 33, "nested more than 32 deep"),
        ("a" * 70_000, "it is 70000 characters long"),
    ],
)
def test_what_is_refused_says_why(pattern: str, reason: str) -> None:
    assert reason in refusal(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a{1,20}){1,20}b",
        "(a|a){1,30}b",
        "(a|ab|b){1,40}c",
        r"(\w{1,9}\s?){1,9}!",
        "(?:a?){1,20}b",
        "(?:a(?:|)){1,30}b",
        "(?:[a-z]{0,5}-?){1,10}!",
        "(?:(?:a{1,3}){1,3}|b){1,12}c",
        "(?>(?:a{1,20}){1,20}b)",  # within it every way is tried
        "x(?!(?:a|a){1,30}b)",
        "(?:a|A){1,40}(?i:(?:a|A|aa){1,40})b",
        "(?:é|[à-ü]a?){1,40}b",
        "(?i:(?:a|[a-c])){1,40}[%]",  # `re` would merge the two
        "(?i:(?:xa|x[a-c])){1,40}[%]",
        r"(?:\d|[\u0600-\u06ff]{2}|[\u0600-\u06ff]){1,40}b",  # digits stand in that block
    ],
)
def test_ways_that_multiply_with_every_turn_are_refused(pattern: str) -> None:
    assert "(exponential)" in refusal(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{1,100}\d{1,100}\d{1,100}",
        r"\w{1,100}-?\d{1,100}-?\w{1,100}x",
        "a?" * 22 + "[bc]",
        "(?:a|ab)(?:b|bc|c)" * 9 + "d",
        "[a-z]{1,200}(?!(?:[a-z]{1,40}[a-z]{1,40})x)",
    ],
)
def test_repeats_that_may_take_the_same_characters_multiply(pattern: str) -> None:
    assert "steps at one place, of 100,000 allowed" in refusal(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        EMAIL,
        IBAN,
        PASSWORD_IN_URL,
        r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)",
        r"(?:\d{1,3} ?){1,4}",  # ambiguous, but it ends soon
        r"\+\d{1,3}(?:[ -]?\d{1,4}){2,5}(?!\d)",
        "(?:a(?:b|c)|ad){1,40}x",  # a second look shows that no two ways meet
        "(?:foo|f[aeiou]{2}x){1,40}y",
        "(?:(?!END)[^x]){1,200}x",
        r"(?:\w{1,9}+\s){1,9}!",
        "[a-z]{1,50}(?:secret|token)[a-z_]{0,20}[:=][A-Za-z0-9]{16,64}",
        "[\u4e00-\u9fff]{2,4}\u5148\u751f",
        f"(?<!\\w)(?:{phrases(500)})(?!\\w)",
        f"(?<!\\w)(?:{phrases(500, 'ignore all previous ')})(?!\\w)",
        "(?i:" + phrases(500).replace(" ", r"[\s-]{1,3}") + ")",
    ],
)
def test_patterns_whose_next_character_tells_pass(pattern: str) -> None:
    assert 0 < inspect(pattern).bound <= MAX_BOUND_CHARACTERS


def test_a_way_is_counted_for_every_option_that_one_text_begins() -> None:
    assert steps("(?:ab|cd|ef){1,9}x") < steps("(?:ab|ab|ab){1,9}x")
    assert steps("(?:a|ab|abc)d{1,50}x") > 2 * steps("(?:a|bb|ccc)d{1,50}x")


def test_a_loop_is_as_dear_as_the_ways_that_lead_through_it_together() -> None:
    one = steps("(?:ab|a[cd]){1,40}[%]")
    two = steps("(?:ab|a[bc]){1,40}[%]")

    assert one < 1_000
    assert two > MAX_STEPS


def test_options_that_overlap_in_many_ways_are_read_in_time() -> None:
    letters_ = "abcdefghijklmnop"
    options = "|".join(
        "".join(f"[^{letters_[(start + place) % 16]}]" for place in range(24)) + f"{start}"
        for start in range(16)
    )

    assert inspect(options).bound == 26


@pytest.mark.parametrize("text", ["[A-Za-z0-9_-]", "[a]", r"[\w.]", r"[^\s\]]"])
def test_one_character_class_may_follow_a_match(text: str) -> None:
    inspect_class(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be one character class"),
        ("a", "must be one character class"),
        (r"\d", "must be one character class"),
        ("(?:[a])", "must be one character class"),
        ("[a]{2}", "something stands behind the character class (at character 4)"),
        ("[a][b]", "something stands behind"),
        ("[a", "is not closed"),
        ("[]", "must be written"),
        ("[z-a]", "bad character range"),
        (r"[\b]", "is not allowed"),
    ],
)
def test_anything_else_may_not(text: str, reason: str) -> None:
    with pytest.raises(PatternRefused) as refused:
        inspect_class(text)

    assert reason in str(refused.value)
