"""How a command fails: one line on standard error that says what to do, never a traceback."""

from typing import IO, Any, NoReturn

import click


class CommandError(click.ClickException):
    """Printed by click as `error: <message>`; ends the process with 1."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


class BadUsage(CommandError):
    """Settings or arguments that cannot be used; ends the process with 2, as click's own do."""

    exit_code = 2


def fail(message: str) -> NoReturn:
    raise CommandError(message)
