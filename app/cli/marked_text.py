"""A text with what a filter found in it, marked, for a terminal."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

import click

from app.protocol.filters.rule import Action, Hit

_COLOURS: dict[Action, Callable[[str], str]] = {
    Action.FLAG: partial(click.style, fg="yellow", underline=True),
    Action.MASK: partial(click.style, fg="red", strikethrough=True),
    Action.BLOCK: partial(click.style, fg="white", bg="red"),
}


def marked(text: str, hits: Iterable[Hit], *, coloured: bool) -> str:
    """What is cut stands as `[-...-]{rule}`, what is only flagged as `[=...=]{rule}`; or both in
    colours. A block cuts all that follows. Nothing in the result steers a terminal."""
    mark = _in_colour if coloured else _in_brackets
    owners = _owners(len(text), sorted(hits, key=lambda hit: (hit.start, -hit.end)))
    parts: list[str] = []
    start = 0
    for owner, run in groupby(owners):
        end = start + sum(1 for _ in run)
        parts.append(_part(escaped(text[start:end]), owner, mark))
        start = end
    return "".join(parts)


def escaped(text: str) -> str:
    """What is not printable as an escape, but for line ends and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in text
    )


def _owners(length: int, hits: Sequence[Hit]) -> list[Hit | None]:
    """Of each character the hit that it is marked for: overlapping masks are cut as one, by the
    first of them; a flag shows where nothing is cut; behind a block all is the block's."""
    owners: list[Hit | None] = [None] * length
    for hit in hits:
        if hit.action is Action.FLAG:
            for index in range(hit.start, hit.end):
                owners[index] = owners[index] or hit
    region: Hit | None = None
    region_end = 0
    for hit in hits:
        if hit.action is not Action.MASK:
            continue
        if region is None or hit.start >= region_end:
            region, region_end = hit, hit.start
        owners[region_end : hit.end] = [region] * max(0, hit.end - region_end)
        region_end = max(region_end, hit.end)
    for hit in hits:
        if hit.action is Action.BLOCK:
            owners[hit.start :] = [hit] * (length - hit.start)
            break
    return owners


def _part(text: str, owner: Hit | None, mark: Callable[[str, Hit], str]) -> str:
    return text if owner is None else mark(text, owner)


def _in_brackets(text: str, hit: Hit) -> str:
    sign = "=" if hit.action is Action.FLAG else "-"
    return f"[{sign}{text}{sign}]{{{hit.rule}}}"


def _in_colour(text: str, hit: Hit) -> str:
    # Line by line: a background that runs over a line's end fills the rest of the terminal's.
    colour = _COLOURS[hit.action]
    return "\n".join(colour(line) if line else line for line in text.split("\n"))
