"""Rules, and texts that hold what they look for: whole, in part, disguised, one in another."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st
from stdnum import luhn

from app.protocol.filters.rule import Action, Rule
from tests.properties.filter_model import LOOK_ALIKES

Rules = list[tuple[Rule, Action]]


def is_card(text: str) -> bool:
    return luhn.is_valid("".join(character for character in text if character.isdigit()))


def rule(name: str, pattern: str, bound: int, **more: object) -> Rule:
    return Rule(f"t.{name}", pattern, bound, replacement=f"[{name}]", **more)  # type: ignore[arg-type]  # any field


# Each with texts that hold it, and texts that nearly do.
LITERAL = rule("literal", "secret", 6, firsts=frozenset("s"))
EMAIL = rule("email", r"(?<![a-z.])[a-z.]{1,9}@[a-z]{1,5}\.[a-z]{2,3}(?![a-z])", 20, behind=1)
CARD = rule("card", r"(?<!\d)\d(?:[ -]?\d){3,7}(?!\d)", 16, behind=1, valid=is_card)
PHRASE = rule("phrase", r"(?<!\w)(?i:red[\s-]{1,3}fox)(?!\w)", 10, behind=1)
ABA = rule("aba", "aba", 3, firsts=frozenset("a"))
BABA = rule("baba", "baba", 4, firsts=frozenset("b"))
TOKEN = rule("token", r"tk-[a-z0-9]{4}", 7, firsts=frozenset("t"), then="[a-z0-9]")
AHEAD = rule("ahead", "cd(?=ef|g)", 4, firsts=frozenset("c"))
NOT_AHEAD = rule("not-ahead", "cd(?!e)", 3, firsts=frozenset("c"))
BEHIND = rule("behind", r"(?<=k:)\w{2,4}", 4, behind=2)
FIRST_WINS = rule("first-wins", "e|ef", 2, firsts=frozenset("e"))
LONG_OR_SHORT = rule("long-or-short", "xyzzyx|xy", 6, firsts=frozenset("x"))
LAZY = rule("lazy", "<.{1,5}?>", 7, firsts=frozenset("<"))
REPEATED = rule("repeated", "(?:ab){1,3}", 6, firsts=frozenset("a"))
LONG = rule("long", "q[^q]{1,40}q", 42, firsts=frozenset("q"))

EXAMPLES: dict[Rule, tuple[str, ...]] = {
    LITERAL: ("secret", "secre", "ssecrett", "secresecret"),
    EMAIL: ("bob@ex.org", "a.b@c.de", "bob@ex.orgs", "bob@ex", "@ex.org"),
    CARD: ("4242", "42-42", "4 2 4 2 4 2 4 2", "42424", "4244", "00 00", "4242-", "424200424242"),
    PHRASE: ("red fox", "Red - FOX", "red-fox", "redfox", "red  fo"),
    ABA: ("aba", "ababa", "abab", "ab"),
    BABA: ("baba", "bababa", "bab"),
    TOKEN: ("tk-a0b1", "tk-a0b1c2d4e0f0", "tk-a0b", "tk-"),
    AHEAD: ("cdef", "cdg", "cde", "cd"),
    NOT_AHEAD: ("cd", "cdx", "cde"),
    BEHIND: ("k:ab", "k:abcdef", "k:a", "k:", ":ab"),
    FIRST_WINS: ("ef", "e", "f"),
    LONG_OR_SHORT: ("xyzzyx", "xyzzy", "xy", "xyxyzzyx"),
    LAZY: ("<a>", "<aaa>a>", "<>", "<aaaaaaaa>", "<a"),
    REPEATED: ("ab", "ababab", "abababab", "abba"),
    LONG: ("qabq", "q secret q", "qq", "q" + 41 * "x" + "q", "q" + 40 * "x" + "q"),
}
RULES = tuple(EXAMPLES)
INVISIBLE = ("\u200b", "\x07", "\u00ad", "\u2060", "\ufe0f", "\u0301", "\u202e", "\U000e0041")
ORDINARY = (
    "", " ", "\n", ".", "-", "b", "0", "&", "%", "\\", "&#", "%4", "\\u00", "é", "日本",
    "\U0001f469\u200d\U0001f469", "\u05e9\u05dc", "e\u0301",
)  # fmt: skip
# Escapes of their own, so that one is met that was not written to disguise a match.
ESCAPED = ("%20", "&amp;", "&#64;", "&#x2e;", "\\u0065", "\\x2D", "%73", "&period;", "&amp;#64;")


# -- disguises


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def look_alike(text: str) -> str:
    alike = {ascii_letter: other for other, ascii_letter in LOOK_ALIKES.items()}
    return "".join(alike.get(c, c) for c in text)


def other_digits(text: str) -> str:
    return "".join(chr(0x660 + int(c)) if c in "0123456789" else c for c in text)


def zero_width(text: str) -> str:
    return "\u200b".join(text)


def marked(text: str) -> str:
    """What every letter has behind it is invisible too; the last one keeps none."""
    return "\u0301\ufe0f".join(text)


def percent(text: str) -> str:
    return "".join(f"%{ord(c):02x}" for c in text)


def decimal(text: str) -> str:
    return "".join(f"&#{ord(c)};" for c in text)


def hexadecimal(text: str) -> str:
    return "".join(f"&#x{ord(c):X};" for c in text)


def backslash_u(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def backslash_x(text: str) -> str:
    return "".join(f"\\x{ord(c):02X}" for c in text)


DISGUISES: tuple[Callable[[str], str], ...] = (
    full_width, look_alike, other_digits, zero_width, marked,
    percent, decimal, hexadecimal, backslash_u, backslash_x,
)  # fmt: skip


def base64_of(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def hex_of(text: str) -> str:
    return text.encode().hex()


# -- what is drawn

actions = st.sampled_from((Action.MASK, Action.MASK, Action.MASK, Action.FLAG, Action.BLOCK))
rule_sets = st.lists(
    st.tuples(st.sampled_from(RULES), actions), min_size=1, max_size=5, unique_by=lambda r: r[0]
)


@st.composite
def disguised(draw: st.DrawFn, examples: st.SearchStrategy[str]) -> str:
    """An example, in which one stretch or all of it is disguised."""
    example = draw(examples)
    start, end = sorted((draw(st.integers(0, len(example))), draw(st.integers(0, len(example)))))
    disguise = draw(st.sampled_from(DISGUISES))
    return example[:start] + disguise(example[start:end]) + example[end:]


def texts(rules: Rules, *, encoded: bool = False) -> st.SearchStrategy[str]:
    """`encoded`: the model knows nothing of it."""
    own = st.sampled_from([text for rule, _ in rules for text in EXAMPLES[rule]])
    fragments = st.one_of(
        own,
        own,
        disguised(own),
        st.sampled_from(ORDINARY),
        st.sampled_from(ESCAPED),
        st.sampled_from(INVISIBLE),
        *([own.map(base64_of), own.map(hex_of), st.just("bGF6eQ==")] if encoded else []),
    )
    return st.lists(fragments, max_size=9).map("".join)


@dataclass(frozen=True)
class Part:
    """Of a pattern: what it matches is `least` to `most` characters, and it looks at `ahead`."""

    pattern: str
    least: int
    most: int
    ahead: int = 0


# None of it is base64 or hexadecimal that says something.
SMALL_ALPHABET = "xy0-"
_characters = st.sampled_from(("x", "y", "0", "[xy]", "[^x]", ".", r"\d", r"\w", "(?i:X)")).map(
    lambda text: Part(text, 1, 1)
)


@st.composite
def _repeated(draw: st.DrawFn, parts: st.SearchStrategy[Part]) -> Part:
    part = draw(parts)
    least = draw(st.integers(0, 2))
    most = draw(st.integers(max(least, 1), 3))
    kind = draw(st.sampled_from(("", "?", "+")))
    return Part(
        f"(?:{part.pattern}){{{least},{most}}}{kind}",
        part.least * least,
        part.most * most,
        part.ahead,
    )


@st.composite
def _either(draw: st.DrawFn, parts: st.SearchStrategy[Part]) -> Part:
    a, b = draw(parts), draw(parts)
    opening = draw(st.sampled_from(("(?:", "(?:", "(?>")))
    return Part(
        f"{opening}{a.pattern}|{b.pattern})",
        min(a.least, b.least),
        max(a.most, b.most),
        max(a.ahead, b.ahead),
    )


@st.composite
def _one_after_other(draw: st.DrawFn, parts: st.SearchStrategy[Part]) -> Part:
    a, b = draw(parts), draw(parts)
    return Part(a.pattern + b.pattern, a.least + b.least, a.most + b.most, a.ahead + b.ahead)


@st.composite
def _looking_ahead(draw: st.DrawFn, parts: st.SearchStrategy[Part]) -> Part:
    a, b = draw(parts), draw(parts)
    sign = draw(st.sampled_from("=!"))
    return Part(f"{a.pattern}(?{sign}{b.pattern})", a.least, a.most, a.ahead + b.most + b.ahead)


_parts = st.recursive(
    _characters,
    lambda parts: st.one_of(
        _one_after_other(parts),
        _one_after_other(parts),
        _either(parts),
        _repeated(parts),
        _looking_ahead(parts),
    ),
    max_leaves=7,
)


def _has_not_one_x(text: str) -> bool:
    return text.count("x") != 1


@st.composite
def generated_rules(draw: st.DrawFn) -> Rules:
    """Any pattern at all over a small alphabet, so that matches meet each other all the time."""
    rules: Rules = []
    for number in range(draw(st.integers(1, 3))):
        part = draw(_parts.filter(lambda part: part.least > 0))
        behind, before = draw(
            st.sampled_from(((0, ""), (0, ""), (1, "(?<!x)"), (1, r"(?<=\d)"), (2, "(?<!xy)")))
        )
        made = rule(
            str(number),
            before + part.pattern,
            part.most + part.ahead,
            behind=behind,
            valid=draw(st.sampled_from((None, None, _has_not_one_x))),
            then=draw(st.sampled_from((None, None, None, "[0y]"))),
        )
        rules.append((made, draw(actions)))
    return rules


small_texts = st.text(alphabet=3 * SMALL_ALPHABET + "\u200b\uff58", max_size=24)
