"""What a filter has to do with a text, as one would do it who sees all of it and has all the time
in the world: the meaning of rules once more, without windows, partial matches or hold-back."""

import html.entities
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import regex

from app.protocol.filters.rule import Action, Hit, Rule

MOST_INVISIBLE = 32

# ruff: noqa: RUF001 - the letters are what this is about
LOOK_ALIKES = dict(zip("асеорхуіѕАВЕКМНОРСТХ", "aceopxyisABEKMHOPCTX", strict=True)) | dict(
    zip("οΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "oABEZHIKMNOPTYX", strict=True)
)
_ASCII = str.maketrans(LOOK_ALIKES)
_ESCAPE = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})|&#(?P<decimal>[0-9]{1,7});?|&#[xX](?P<hex>[0-9A-Fa-f]{1,6});?"
    r"|&(?P<name>[A-Za-z]{2,8};)|\\u(?P<u>[0-9A-Fa-f]{4})|\\x(?P<x>[0-9A-Fa-f]{2})"
    r"|\\(?P<one>[ntr\"/_*.@+~-])"
)


@dataclass(frozen=True)
class View:
    """A way to read a text: characters, and for each the place in the source that it came from."""

    text: str
    places: tuple[tuple[int, int], ...]
    end: int  # of the source

    def span(self, start: int, end: int) -> tuple[int, int]:
        """With what stands invisible behind it: up to the next character that is seen."""
        following = [place for place, _ in self.places[end : end + 1]] or [self.end]
        return self.places[start][0], max(self.places[end - 1][1], *following)


@dataclass(frozen=True)
class Found:
    """A match: where it is, and up to where a mask of it reaches."""

    hit: Hit
    hidden_to: int


@dataclass(frozen=True)
class Filtered:
    output: str
    hits: frozenset[Hit]
    blocked: bool


def invisible(character: str) -> bool:
    return (
        unicodedata.category(character) == "Cf"
        or (unicodedata.category(character) == "Cc" and not character.isspace())
        or "\u0300" <= character <= "\u036f"
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def fold(character: str) -> str:
    """As a reader sees it; "" where there is nothing to see."""
    if invisible(character):
        return ""
    letters = unicodedata.normalize("NFKC", character).translate(_ASCII)
    return "".join(
        str(unicodedata.digit(letter)) if unicodedata.category(letter) == "Nd" else letter
        for letter in letters
    )


def plain(source: str) -> View:
    return View(source, tuple((at, at + 1) for at in range(len(source))), len(source))


def folded(source: str) -> View:
    letters = [
        (letter, (at, at + 1)) for at, character in enumerate(source) for letter in fold(character)
    ]
    text, places = "".join(letter for letter, _ in letters), (place for _, place in letters)
    return View(text, tuple(places), len(source))


def unescaped(view: View) -> View:
    """Escapes read once: what comes out of one is no part of another."""
    text, places, done = "", list[tuple[int, int]](), 0
    for escape in _ESCAPE.finditer(view.text):
        meant = _meaning(escape)
        if meant is None:
            continue
        text += view.text[done : escape.start()]
        places += view.places[done : escape.start()]
        letters = fold(meant)
        text += letters
        first, last = view.places[escape.start()], view.places[escape.end() - 1]
        places += [(first[0], last[1])] * len(letters)
        done = escape.end()
    return View(text + view.text[done:], (*places, *view.places[done:]), view.end)


def _meaning(escape: re.Match[str]) -> str | None:
    if escape["one"]:
        return {"n": "\n", "t": "\t", "r": "\r"}.get(escape["one"], escape["one"])
    if escape["name"]:
        return html.entities.html5.get(escape["name"])
    number = int(escape["decimal"] or "0")
    for base_16 in ("percent", "hex", "u", "x"):
        number = int(escape[base_16], 16) if escape[base_16] else number
    return chr(number) if number < 0x11_0000 else None


def matches(text: str, rule: Rule) -> Iterator[tuple[int, int]]:
    """Leftmost, not overlapping; where one does not count, the search goes on a character on."""
    pattern, at = regex.compile(rule.pattern, regex.VERSION0), 0
    while (match := pattern.search(text, at)) is not None:
        if rule.valid is None or rule.valid(match[0]):
            yield match.span()
            at = match.end()
        else:
            at = match.start() + 1


def reach(text: str, end: int, then: str | None) -> int:
    if then is not None:
        one = regex.compile(then, regex.VERSION0)
        while end < len(text) and one.fullmatch(text[end]):
            end += 1
    return end


def found(source: str, rules: Sequence[tuple[Rule, Action]]) -> list[Found]:
    """The earliest first, of those the longest, of those the first in the order of rules."""
    views = (folded(source), plain(source), unescaped(folded(source)))
    every: dict[Found, None] = {}
    for rule, action in rules:
        for view in views:
            for start, end in matches(view.text, rule):
                hit = Hit(rule.id, action, *view.span(start, end))
                to = view.span(start, reach(view.text, end, rule.then))[1]
                every[Found(hit, to)] = None
    return sorted(every, key=lambda one: (one.hit.start, -one.hit.end))


def counted(every: list[Found]) -> list[Hit]:
    """Each once, though several views show it: of a rule's hits, none that begins in another."""
    counted_to: dict[str, int] = {}
    hits = []
    for one in every:
        if one.hit.start >= counted_to.get(one.hit.rule, 0):
            counted_to[one.hit.rule] = one.hit.end
            hits.append(one.hit)
    return hits


def filtered(text: str, rules: Sequence[tuple[Rule, Action]]) -> Filtered:
    """Places are those in the text without a flood of what is invisible. Flags are looked for in
    what is let through: of what stands behind, nobody knows how much there was."""
    source = without_flood(text)
    every = found(source, [(rule, action) for rule, action in rules if action is not Action.FLAG])
    blocks = [one.hit.start for one in every if one.hit.action is Action.BLOCK]
    stop = min(blocks, default=len(source))
    hits = [
        hit
        for hit in counted(every)
        if hit.start < stop or (hit.start == stop and hit.action is Action.BLOCK)
    ]
    flags = [(rule, action) for rule, action in rules if action is Action.FLAG]
    hits += counted(found(source[:stop], flags))
    masks = [one for one in every if one.hit.action is Action.MASK and one.hit.start < stop]
    replacements = {rule.id: rule.replacement for rule, _ in rules}
    output = masked(source[:stop], masks, lambda one: replacements[one.hit.rule])
    return Filtered(output, frozenset(hits), bool(blocks))


def masked(source: str, masks: list[Found], replacement: Callable[[Found], str]) -> str:
    output, done = list[str](), 0
    for at, character in enumerate(source):
        begins = [one for one in masks if one.hit.start == at]
        if begins and at >= done:
            output.append(replacement(begins[0]))
        done = max([done, *(one.hidden_to for one in begins)])
        if at >= done:
            output.append(character)
    return "".join(output)


def without_flood(text: str) -> str:
    """Of what is invisible, no more than so many in a row."""
    output, unseen = list[str](), 0
    for character in text:
        unseen = unseen + 1 if invisible(character) else 0
        if unseen <= MOST_INVISIBLE:
            output.append(character)
    return "".join(output)
