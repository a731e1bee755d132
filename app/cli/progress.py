"""How far a long command is, on standard error: nothing where that is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """Gives what is to be told of each step. `length` may be an estimate."""
    with click.progressbar(
        length=max(1, length),
        label=label,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        show_pos=True,
    ) as bar:
        yield bar.update
