"""What our images and manifests tell the command line to do, read as it reads it."""

import click

from app.cli import main


def read(arguments: list[str]) -> click.Context:
    """Of the command that they name. Raises click's exceptions for one that we have not, or that
    does not take them."""
    command: click.Command = main
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            _, found, arguments = command.resolve_command(context, list(arguments))
        assert found is not None
        command = found
    return command.make_context(command.name, list(arguments))
