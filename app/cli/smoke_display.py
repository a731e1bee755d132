"""A running request on a terminal: a bar or a counter that moves each second; in a log, a line now
and then."""

import shutil
import sys

import click

from app.cli.token_count import token_words
from app.smoke.progress import Display, Running

BAR_CHARACTERS = 20
PLAIN_SECONDS = 15.0  # between two lines of a log: enough to see that it lives
_CLEAR_LINE = "\r\x1b[K"


def display() -> Display:
    return TerminalDisplay() if sys.stderr.isatty() else PlainDisplay()


class TerminalDisplay:
    def show(self, running: Running, seconds: float) -> None:
        # A line that wraps could not be cleared.
        columns = shutil.get_terminal_size().columns - 1
        _write(f"{_CLEAR_LINE}{progress_words(running, seconds)[:columns]}")

    def clear(self) -> None:
        _write(_CLEAR_LINE)


def _write(text: str) -> None:
    click.echo(text, err=True, nl=False, color=True)  # or click would take the escape away


class PlainDisplay:
    def __init__(self) -> None:
        self._next_at = PLAIN_SECONDS

    def show(self, running: Running, seconds: float) -> None:
        if seconds >= self._next_at:
            click.echo(progress_words(running, seconds), err=True)
            self._next_at = seconds + PLAIN_SECONDS

    def clear(self) -> None:
        self._next_at = PLAIN_SECONDS


def progress_words(running: Running, seconds: float) -> str:
    """A bar towards the first token where there is a guess when it comes."""
    name = f"{running.step:<10}"
    if running.pieces:
        return f"{name} {running.pieces} tokens, {seconds:.0f} s"
    what = f"reading {token_words(running.prompt_tokens)} tokens" if running.prompt_tokens else ""
    limit = f"gives up after {running.limit_seconds:.0f} s"
    if running.expected_seconds is None:
        return f"{name} {what or 'waiting'}, {seconds:.0f} s ({limit})"
    share = min(1.0, seconds / running.expected_seconds)
    bar = "#" * int(share * BAR_CHARACTERS)
    about = f"{seconds:.0f} s of perhaps {running.expected_seconds:.0f} s"
    return f"{name} {what} [{bar:-<{BAR_CHARACTERS}}] {about} ({limit})"
