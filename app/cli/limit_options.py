"""Limits at the terminal, of a key, a plan or a tenant: their options, and what `--unset` means."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, TypeVar

import click

from app.cli.errors import BadUsage
from app.store.policy import Limits

Command = TypeVar("Command", bound=Callable[..., Any])


class LimitOptions(TypedDict):
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None


# Where an option's name is not that of the field.
LIMIT_NAMES = {"requests_per_minute": "rpm", "tokens_per_minute": "tpm"}

LIMIT_DECORATORS = (
    click.option("--rpm", type=int, help="Requests a minute."),
    click.option("--tpm", type=int, help="Tokens a minute, of prompts and answers."),
    click.option("--concurrency", type=int, help="Requests at a time."),
    click.option("--tokens-per-day", type=int, help="Budget of tokens for each day, in UTC."),
    click.option("--tokens-per-month", type=int, help="Budget of tokens for each month, in UTC."),
)
unset_option = click.option(
    "--unset",
    metavar="FIELD",
    multiple=True,
    help="A field to take away, by its name or its option's; give more than one if need be.",
)


def limit_options(command: Command) -> Command:
    """Adds the options of LimitOptions to a command."""
    for decorator in reversed(LIMIT_DECORATORS):
        command = decorator(command)
    return command


def given_limits(options: LimitOptions) -> dict[str, Any]:
    """Those that were given, by their fields."""
    values = {
        name: options[LIMIT_NAMES.get(name, name)]  # type: ignore[literal-required]  # by its field
        for name in Limits.model_fields
    }
    return {name: value for name, value in values.items() if value is not None}


def option_of(field: str, names: Mapping[str, str]) -> str:
    """`requests_per_minute` is `--rpm`; `names` has those that are not the field's own."""
    return "--" + names.get(field, field).replace("_", "-")


def with_unset(
    given: Mapping[str, Any],
    unset: Iterable[str],
    fields: Iterable[str],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """What a `set` command changes: `given`, and None for each field that `unset` names.

    `fields` are all that there are. Raises BadUsage for a name that is none of them or that is
    given as well.
    """
    known = {name: field for field in fields for name in (field, names.get(field, field))}
    changes = dict(given)
    for name in unset:
        field = known.get(name.removeprefix("--").replace("-", "_"))
        if field is None:
            raise BadUsage(
                f"--unset: {name!a} is none of {', '.join(dict.fromkeys(known.values()))}"
            )
        if field in given:
            raise BadUsage(f"--unset: {field} is set by {option_of(field, names)} as well")
        changes[field] = None
    return changes
