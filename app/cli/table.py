"""Aligned text for a terminal."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; None shows as `-`."""
    lines = [list(head), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(values: Iterable[tuple[str, object]]) -> str:
    """One `name  value` a line, the values aligned."""
    cells = [(name, cell(value)) for name, value in values]
    width = max(len(name) for name, _ in cells)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in cells)


def section(title: str, lines: Iterable[tuple[str, object]], *, empty: str) -> str:
    """The title, and below it `name: value` for each, indented; or `empty` where there is none."""
    shown = [f"  {name}: {value}" for name, value in lines] or [f"  {empty}"]
    return "\n".join([title, *shown])


def cell(value: object) -> str:
    """On one line. Clients choose some of these texts: none of them may move the cursor or forge a
    line."""
    text = "-" if value is None else str(value)
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )
