"""Patterns looked at before they are used: what may be written, how far a match reaches, and what
it may cost.

A stream can hold back only what may still become a match, so the longest match has to be known. A
match must mean the same wherever the text was cut, so what asks about the end of the text is
refused. And a pattern stands between a model and its client, so one that can be made to run for
seconds is refused as well (see `ambiguity`).

What may be written is what `re` and `regex` read the same way: `scan` lets only that through. Then
the parser of `re` takes the pattern apart. It is not a public interface, which is why nothing
outside `parse` knows of it; it has kept its form since Python 3.11, and `regex` offers none.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from re import _parser as re_parser  # type: ignore[attr-defined]  # see above
from typing import Any

import regex

from app.protocol.filters.ambiguity import (
    MAX_STEPS,
    Atom,
    Atomic,
    Backtracking,
    Choice,
    Look,
    Node,
    Repeat,
    Series,
    atoms,
    beginnings,
    extent,
)
from app.protocol.filters.rule import BEYOND_ASCII

MAX_BOUND_CHARACTERS = 1024  # of a match and what it looks at: a stream holds back that much
MAX_BEHIND_CHARACTERS = 16  # kept of the text that has gone out, for every look-behind
MAX_PATTERN_CHARACTERS = 64 * 1024  # 500 phrases are 15,000; looked at in about a second
MAX_NESTING = 32  # groups in groups: the parsers and we go down by recursion

# Classes, control characters, characters by number, and what needs no meaning.
_ESCAPES = frozenset("dDsSwWnrtfvxuU!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ")
_UNSTABLE = frozenset("bBAZzG")
_COUNTS = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_GROUP = re.compile(r"\((?:\?(?::|=|!|<=|<!|>|[is]+:|[is]*-[is]+:))?")
_REFUSED_GROUPS = (
    (("(?P", "(?<"), "named groups and references are not allowed: write (?:...)"),
    ("(?(", "conditionals are not allowed"),
    ("(?#", "comments are not allowed: write them into the description"),
    (("(?R", "(?&"), "recursion is not allowed"),
    ("(?|", "groups that share numbers are not allowed: write (?:...)"),
)
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
# `re` merges options that are a character or a class, and takes out what all options begin with;
# `regex` does not where case is ignored, and backtracks over them. An option between each two, of
# characters that no text holds, keeps them apart.
_TOKEN = re.compile(r"(\\.|\[(?:\\.|[^]\\])*\])|\|", re.DOTALL)
_MARK = "\uffff\ufffe"
_ASCII = "".join(map(chr, range(128)))
# Two letters, digits, spaces and others beyond ASCII, so that one is left where a pattern names the
# other.
_BEYOND = "\u4e00\u4e01\u0966\u0967\u2003\u2004\u2192\u2193"
# Where case is ignored, these are letters of ASCII.
_FOLDED_TO_ASCII = "\u212a\u017f\u0130\u0131"


class PatternRefused(ValueError):
    """Why a pattern may not be used, in a sentence for the one who wrote it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`bound` is the most characters of a match together with what it looks at behind its end,
    `behind` how many characters it looks back at before its start. `firsts` holds the ASCII
    characters that a match may begin with, and BEYOND_ASCII if it may begin with any other."""

    bound: int
    behind: int
    firsts: frozenset[str] | None


def inspect(pattern: str, *, ignore_case: bool = False) -> Shape:
    """Raises PatternRefused."""
    scan(pattern)
    node = parse(pattern, ignore_case=ignore_case)
    whole = extent(node)
    if whole.least == 0:
        raise PatternRefused("it may match nothing at all: let it match one character at least")
    if whole.reach > MAX_BOUND_CHARACTERS:
        raise PatternRefused(
            f"a match, with what it looks at behind its end, may take {whole.reach} characters;"
            f" at most {MAX_BOUND_CHARACTERS} are allowed"
        )
    if whole.behind > MAX_BEHIND_CHARACTERS:
        raise PatternRefused(
            f"it looks back {whole.behind} characters; at most {MAX_BEHIND_CHARACTERS} are allowed"
        )
    _check_cost(node)
    # Last: `regex` copies the body of a repeat, so compiling {1,2} in {1,2} in ... takes gigabytes.
    _compile(pattern, regex.IGNORECASE if ignore_case else 0)
    firsts: set[str] = set()
    for atom in dict.fromkeys(beginnings(node)):
        firsts.update(regex.findall(atom.text, _ASCII, flags=atom.flags))
        beyond = any(point > 127 for point in atom.points)
        if beyond or regex.search(atom.text, _BEYOND + _FOLDED_TO_ASCII, flags=atom.flags):
            firsts.add(BEYOND_ASCII)
    return Shape(whole.reach, whole.behind, frozenset(firsts))


def inspect_class(text: str) -> None:
    """Raises PatternRefused unless it is one character class, such as `[A-Za-z0-9_-]`."""
    if not text.startswith("["):
        raise PatternRefused("it must be one character class, such as [A-Za-z0-9_-]")
    end = _scan_class(text, 0)
    if end != len(text):
        raise PatternRefused(f"something stands behind the character class{_at(end)}")
    _compile(text, 0)


def _at(position: int) -> str:
    return f" (at character {position + 1})"


def scan(pattern: str) -> None:
    """Raises PatternRefused for what `re` and `regex` read differently, and for what a stream
    cannot answer."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise PatternRefused(
            f"it is {len(pattern)} characters long; at most {MAX_PATTERN_CHARACTERS} are allowed"
        )
    at, depth, after_repeat = 0, 0, False
    while at < len(pattern):
        character = pattern[at]
        repeats = character in "*+?{"
        if repeats:
            at = _scan_repeat(pattern, at, after_repeat=after_repeat)
        elif character == "\\":
            at = _scan_escape(pattern, at, in_class=False)
        elif character == "[":
            at = _scan_class(pattern, at)
        elif character == "(":
            at, depth = _scan_group(pattern, at), depth + 1
            if depth > MAX_NESTING:
                raise PatternRefused(f"groups are nested more than {MAX_NESTING} deep{_at(at)}")
        elif character in "^$":
            raise PatternRefused(
                f"{character} is not allowed: where a text ends is not known while it streams;"
                f" write (?<!\\w) or (?!\\w){_at(at)}"
            )
        else:
            depth -= character == ")"
            at += 1
        after_repeat = repeats


def _scan_repeat(pattern: str, at: int, *, after_repeat: bool) -> int:
    character = pattern[at]
    if character == "?" or (character == "+" and after_repeat):
        return at + 1
    if character in "*+":
        raise PatternRefused(f"{character} has no upper bound: give one, such as {{1,64}}{_at(at)}")
    counts = _COUNTS.match(pattern, at)
    if counts is None or counts[0] in ("{}", "{,}"):
        raise PatternRefused(f"a brace that is no repeat must be written \\{{{_at(at)}")
    if counts[2] and not counts[3]:
        raise PatternRefused(
            f"{counts[0]} has no upper bound: give one, such as {{{counts[1]},64}}{_at(at)}"
        )
    most = counts[3] or counts[1]
    if len(most) > 4 or int(most) > MAX_BOUND_CHARACTERS:
        raise PatternRefused(
            f"{counts[0]} repeats too often; at most {MAX_BOUND_CHARACTERS} times are"
            f" allowed{_at(at)}"
        )
    return counts.end()


def _scan_escape(pattern: str, at: int, *, in_class: bool) -> int:
    escaped = pattern[at + 1 : at + 2]
    if escaped in _ESCAPES:
        return at + 2
    if not escaped:
        reason = "a backslash at the end escapes nothing"
    elif escaped in "0123456789":
        reason = f"\\{escaped} is not allowed: no back-references, and write characters as \\x41"
    elif escaped in _UNSTABLE and not in_class:
        reason = (
            f"\\{escaped} is not allowed: its answer at the end of a piece of text changes with"
            " what comes next; write (?<!\\w) or (?!\\w)"
        )
    else:
        reason = f"\\{escaped} is not allowed"
    raise PatternRefused(reason + _at(at))


def _scan_class(pattern: str, start: int) -> int:
    at = start + 1
    if pattern.startswith("^", at):
        at += 1
    if pattern.startswith("]", at):
        raise PatternRefused(f"a ] in a character class must be written \\]{_at(at)}")
    while at < len(pattern):
        character = pattern[at]
        if character == "]":
            return at + 1
        if character == "\\":
            at = _scan_escape(pattern, at, in_class=True)
            continue
        if character == "[":
            raise PatternRefused(f"a [ in a character class must be written \\[{_at(at)}")
        if character in "-&|~" and pattern.startswith(character, at + 1):
            raise PatternRefused(
                f"{character * 2} in a character class must be written"
                f" \\{character}\\{character}{_at(at)}"
            )
        at += 1
    raise PatternRefused(f"the character class is not closed{_at(start)}")


def _scan_group(pattern: str, at: int) -> int:
    group = _GROUP.match(pattern, at)
    if group is not None and (group[0] != "(" or not pattern.startswith(("?", "*"), at + 1)):
        return group.end()
    for beginning, reason in _REFUSED_GROUPS:
        if pattern.startswith(beginning, at):
            raise PatternRefused(reason + _at(at))
    raise PatternRefused(
        "of the groups with a mark, these are allowed: (?:  (?=  (?!  (?<=  (?<!  (?>  (?i:  (?s:"
        + _at(at)
    )


def _compile(pattern: str, flags: int) -> None:
    with _refusing():
        re.compile(pattern, re.IGNORECASE if flags else 0)
        regex.compile(pattern, regex.VERSION0 | flags)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except re.error as error:
        place = "" if error.pos is None else _at(error.pos)
        raise PatternRefused(f"it is not a pattern: {error.msg}{place}") from error
    except (regex.error, Warning) as error:
        raise PatternRefused(f"it is not a pattern: {error}") from error


def parse(pattern: str, *, ignore_case: bool = False) -> Node:
    """What `scan` let through, taken apart; raises PatternRefused."""
    flags = re.IGNORECASE if ignore_case else 0
    marked = _TOKEN.sub(lambda token: token[1] or f"|{_MARK}|", pattern)
    with _refusing():
        re_parser.parse(pattern, flags)  # an error says where it is
        return _node(re_parser.parse(marked, flags), flags)


def _node(items: Any, flags: int) -> Node:
    parts = tuple(_part(operator.name, operand, flags) for operator, operand in items)
    return parts[0] if len(parts) == 1 else Series(parts)


def _part(operator: str, operand: Any, flags: int) -> Node:
    if operator == "SUBPATTERN":
        _, added, removed, items = operand
        return _node(items, (flags | added) & ~removed)
    if operator == "BRANCH":
        return Choice(tuple(_node(option, flags) for option in operand[1][::2]))  # without marks
    if operator in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, items = operand
        repeat = Repeat(_node(items, flags), int(least), int(most))
        if extent(repeat.body).most == 0:
            raise PatternRefused("what is repeated takes no characters")
        if operator != "POSSESSIVE_REPEAT":
            return repeat
        if not isinstance(repeat.body, Atom):  # `re` does not let it give back within a turn
            raise PatternRefused("a possessive repeat of a group must be written (?>(?:...){1,9})")
        return Atomic(repeat)
    if operator == "ATOMIC_GROUP":
        return Atomic(_node(operand, flags))
    if operator in ("ASSERT", "ASSERT_NOT"):
        direction, items = operand
        look = Look(_node(items, flags), ahead=direction > 0)
        if extent(look.body).least == 0:
            raise PatternRefused(
                "what it looks at may be nothing: let it be one character at least"
            )
        return look
    return _atom(operator, operand, flags)


def _atom(operator: str, operand: Any, flags: int) -> Atom:
    engine_flags = regex.VERSION0
    if flags & re.IGNORECASE:
        engine_flags |= regex.IGNORECASE
    if flags & re.DOTALL:
        engine_flags |= regex.DOTALL
    if operator == "ANY":
        return Atom(".", engine_flags)
    if operator == "LITERAL":
        return Atom(_written(operand), engine_flags, (operand,))
    if operator == "NOT_LITERAL":
        return Atom(f"[^{_written(operand)}]", engine_flags, (operand,))
    if operator == "IN":
        return _class(operand, engine_flags)
    raise PatternRefused("it holds something that can never match, or that we cannot read")


def _class(items: Any, engine_flags: int) -> Atom:
    text, points = "", []
    for kind, value in items:
        if kind.name == "NEGATE":
            text += "^"
        elif kind.name == "CATEGORY":
            text += _CATEGORIES[value.name]
        elif kind.name == "RANGE":
            text += f"{_written(value[0])}-{_written(value[1])}"
            points += value
        else:
            text += _written(value)
            points.append(value)
    return Atom(f"[{text}]", engine_flags, tuple(points))


def _written(code_point: int) -> str:
    return f"\\U{code_point:08x}"


def _check_cost(node: Node) -> None:
    backtracking = Backtracking(letters(node))
    steps = backtracking.cost(node).steps
    if steps <= MAX_STEPS:
        return
    if (repeat := backtracking.exponential) is not None:
        raise PatternRefused(
            f"what {{{repeat.least},{repeat.most}}} repeats can match one text in several ways, so"
            " the ways multiply with every turn (exponential): let each turn begin or end with"
            " characters that stand nowhere else in it"
        )
    raise PatternRefused(
        f"it may take {steps:,} steps at one place, of {MAX_STEPS:,} allowed: repeats or"
        " alternatives that can match the same characters follow one another; set them apart or"
        " lower their upper bounds"
    )


def letters(node: Node) -> Mapping[Atom, int]:
    """What each atom matches, by asking the engine: a bit for every kind of character that some
    atom tells from the others."""
    distinct = tuple(dict.fromkeys(atoms(node)))
    points = sorted({point for atom in distinct for point in atom.points if point > 0x7F})
    characters = _ASCII + _BEYOND + _around(points)
    kinds = dict.fromkeys(characters, 0)
    for place, atom in enumerate(distinct):
        for character in regex.findall(atom.text, characters, flags=atom.flags):
            kinds[character] |= 1 << place
    result = dict.fromkeys(distinct, 0)
    for bit, kind in enumerate(set(kinds.values())):
        for place, atom in enumerate(distinct):
            if kind >> place & 1:
                result[atom] |= 1 << bit
    return result


def _around(points: list[int]) -> str:
    """Where the answer of a class may change beyond ASCII: at the ends of its ranges, in either
    case, and where letters, digits and spaces begin and end."""
    if not points:
        return ""
    found = set(_category_starts())
    for point in points:
        for character in (chr(point), chr(min(point + 1, 0x10FFFF))):
            found.update((character, character.lower()[:1], character.upper()[:1]))
    return "".join(sorted(found))


@cache
def _category_starts() -> str:
    """Takes some 100 ms, and only where a rule names characters beyond ASCII."""
    everything = "".join(map(chr, range(0x110000)))
    runs = regex.finditer(r"\d+|\s+|[^\W\d]+|[^\w\s]+", everything)
    return "".join(everything[run.start()] for run in runs)
