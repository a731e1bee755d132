"""`gateway config`: the settings that are in force, and what is wrong with them."""

import click

from app.cli.config_reference import reference
from app.cli.config_text import FORMS, effective
from app.cli.errors import BadUsage
from app.doctor.startable import faults_of
from app.settings import Settings, SettingsError, load_settings, unknown_variables

EXIT_FAULTS = 2


@click.group()
def config() -> None:
    """The settings: from the environment, and from the file that GATEWAY_CONFIG names."""


@config.command("print")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMS)),
    default="env",
    show_default=True,
    help="Lines for the environment, or for the file.",
)
@click.option("--all", "with_defaults", is_flag=True, help="Also those that nobody has set.")
def print_settings(*, form: str, with_defaults: bool) -> None:
    """Print the settings that are in force, and where each comes from. Secrets are masked."""
    settings = _settings()
    _warn_of_unknown()
    click.echo(effective(settings, form, with_defaults=with_defaults))


@config.command()
def check() -> None:
    """Check that `gateway serve` could start with these settings: all faults at once, by name.

    Nothing is asked of the database, of Redis or of the workers: `gateway doctor` does.
    """
    _warn_of_unknown()
    try:
        faults = faults_of(load_settings())
    except SettingsError as error:
        faults = list(error.faults)
    for fault in faults:
        click.echo(f"error: {fault}", err=True)
    if faults:
        raise click.exceptions.Exit(EXIT_FAULTS)
    click.echo("the settings are good")


@config.command("reference")
def print_reference() -> None:
    """Print docs/configuration.md: what each setting means, in Markdown."""
    click.echo(reference(Settings), nl=False)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise BadUsage("\n".join(error.faults)) from None


def _warn_of_unknown() -> None:
    for variable in unknown_variables():
        click.echo(f"warning: {variable}: is not a setting of the gateway", err=True)
