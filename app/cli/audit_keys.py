"""The keys that checkpoints of the audit log are signed with, for commands."""

import click

from app.audit.checkpoints.signing import SigningKeys, parse_public_key
from app.audit.start import signing_keys_of
from app.cli.errors import BadUsage
from app.cli.keys import command_pepper
from app.settings import Settings, SettingsError, load_settings


def command_signing_keys(settings: Settings) -> SigningKeys:
    """Raises SettingsError."""
    return signing_keys_of(settings, command_pepper(settings).encode())


class PublicKey(click.ParamType[str]):
    """An option's type: hexadecimal digits, as `gateway audit public-key` prints them."""

    name = "HEX"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return parse_public_key(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("public-key")
def public_key() -> None:
    """Print the keys that sign the log's checkpoints, the one in use first.

    Whoever has one can verify an export, and sign nothing.
    """
    try:
        keys = command_signing_keys(load_settings())
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    for key in keys.public_keys:
        click.echo(key)
