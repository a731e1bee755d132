"""A text sent through a filter, in pieces."""

from collections import Counter
from dataclasses import dataclass

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Hit
from app.protocol.filters.text_filter import TextFilter


@dataclass(frozen=True)
class Run:
    """What came out, piece by piece; the last of them at the end."""

    pieces: tuple[str, ...]
    hits: Counter[Hit]
    blocked: bool
    most_held: int

    @property
    def output(self) -> str:
        return "".join(self.pieces)

    @property
    def outcome(self) -> tuple[str, Counter[Hit], bool]:
        return self.output, self.hits, self.blocked


def run(pieces: list[str], rules: FilterRules) -> Run:
    reader, out, most_held = TextFilter(rules), list[str](), 0
    for piece in pieces:
        out.append(reader.feed(piece))
        most_held = max(most_held, reader.held)
        assert reader.held <= rules.hold_characters
    out.append(reader.close())
    assert reader.held == 0
    return Run(tuple(out), Counter(reader.hits), reader.blocked, most_held)


def every_two_pieces(text: str) -> list[list[str]]:
    return [[text[:at], text[at:]] for at in range(1, len(text))]
