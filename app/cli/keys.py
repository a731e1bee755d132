"""`gateway keys`: issue, list, show, change, revoke and rotate API keys."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Unpack

import click
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import on_database
from app.cli.durations import duration
from app.cli.errors import BadUsage
from app.cli.json_option import as_json
from app.cli.limit_options import unset_option
from app.cli.moments import minute
from app.cli.policy_options import PolicyOptions, policy_lines, policy_of, policy_options, reason
from app.cli.spent import spent_rows, spent_tokens
from app.cli.table import fields, section, table
from app.embedded.dev_secrets import dev_pepper
from app.settings import Settings, SettingsError
from app.store.api_key import DEFAULT_TENANT, KeyChanges, KeyDraft, KeyRecord
from app.store.key_records import MAX_GRACE_SECONDS, KeyRecords
from app.store.key_view import KeyView, issued_view, view
from app.store.keys import IssuedKey, KeyStore
from app.store.paging import MAX_PAGE_ROWS, all_records

STORE_IT_NOW = "Store the secret now: it is not shown again."


class DraftOptions(PolicyOptions):
    name: str
    tenant: str
    expires_in: timedelta | None
    plan: str | None


class ChangeOptions(PolicyOptions):
    plan: str | None
    no_plan: bool
    unset: tuple[str, ...]


@click.group()
def keys() -> None:
    """Issue, list, show, change, revoke and rotate API keys."""


@keys.command("create")
@click.option("--name", required=True, help="What the key is for.")
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose key it is.")
@click.option("--expires-in", type=duration(shortest=timedelta(seconds=1)), help="As in 12h, 30d.")
@click.option("--plan", metavar="NAME", help="A plan, for what no option here says.")
@policy_options
@as_json
def create_key(*, as_json: bool, **options: Unpack[DraftOptions]) -> None:
    """Issue a key and print its secret, once."""
    draft = _draft(options)

    async def step(engine: AsyncEngine, settings: Settings) -> IssuedKey:
        return await _store(engine, settings).create(draft)

    _print_issued(on_database(step), as_json=as_json)


@keys.command("list")
@click.option("--tenant", help="Only this tenant's keys.")
@as_json
def list_keys(*, tenant: str | None, as_json: bool) -> None:
    """List keys, newest first. Secrets are not known to anyone."""

    async def step(engine: AsyncEngine, _: Settings) -> list[KeyRecord]:
        return await _all_keys(KeyRecords(engine), tenant)

    found = [view(key) for key in on_database(step)]
    if as_json:
        for key in found:
            click.echo(key.model_dump_json())
    else:
        head = ("ID", "NAME", "TENANT", "PLAN", "STATE", "CREATED", "EXPIRES", "SECRETS")
        click.echo(table(head, (_row(key) for key in found)))


@keys.command("show")
@click.argument("key_id", metavar="ID")
@as_json
def show_key(key_id: str, *, as_json: bool) -> None:
    """Show a key with its policy, and what it has spent. Its secrets are not known to anyone."""

    async def step(engine: AsyncEngine, _: Settings) -> tuple[KeyRecord, dict[str, int]]:
        found = await KeyRecords(engine).get(key_id)
        return found, await spent_tokens(engine, key_id=key_id)

    record, spent = on_database(step)
    key = view(record)
    if as_json:
        click.echo(json.dumps(key.model_dump(mode="json") | {"spent": spent}))
        return
    click.echo(fields([*_readable(key), *spent_rows(spent)]))
    for line in _policy_sections(key):
        click.echo(line)


@keys.command("set")
@click.argument("key_id", metavar="ID")
@click.option("--plan", metavar="NAME", help="A plan, for what the key's own policy does not say.")
@click.option("--no-plan", is_flag=True, help="Take the plan away.")
@policy_options
@unset_option
@as_json
def set_key(key_id: str, *, as_json: bool, **options: Unpack[ChangeOptions]) -> None:
    """Change what is named of a key's own policy, and nothing else. It acts everywhere within
    5 seconds."""
    changes = _changes(options)
    key = view(on_database(lambda engine, _: KeyRecords(engine).update(key_id, changes)))
    click.echo(key.model_dump_json() if as_json else f"changed {key_id}")


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
def revoke_key(key_id: str) -> None:
    """End a key for ever. It stops working everywhere within 5 seconds."""
    on_database(lambda engine, _: KeyRecords(engine).revoke(key_id))
    click.echo(f"revoked {key_id}")


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--grace",
    type=duration(longest=timedelta(seconds=MAX_GRACE_SECONDS)),
    default="24h",
    show_default=True,
    help="How long older secrets work on; 0 ends them at once.",
)
@as_json
def rotate_key(key_id: str, *, grace: timedelta, as_json: bool) -> None:
    """Give a key a new secret and print it, once."""

    async def step(engine: AsyncEngine, settings: Settings) -> IssuedKey:
        store = _store(engine, settings)
        return await store.rotate(key_id, grace_seconds=grace.total_seconds())

    _print_issued(on_database(step), as_json=as_json)


def _draft(options: DraftOptions) -> KeyDraft:
    expires_in = options["expires_in"]
    policy = policy_of(options)
    try:
        return KeyDraft(
            name=options["name"],
            tenant=options["tenant"],
            plan=options["plan"],
            expires_at=None if expires_in is None else datetime.now(UTC) + expires_in,
            policy=policy,
        )
    except ValidationError as error:
        option = error.errors(include_url=False, include_input=False)[0]["loc"][0]
        raise BadUsage(f"--{option}: {reason(error)}") from None


def _changes(options: ChangeOptions) -> KeyChanges:
    changes: KeyChanges = {}
    if options["plan"] is not None and options["no_plan"]:
        raise BadUsage("--plan and --no-plan exclude each other")
    if options["plan"] is not None or options["no_plan"]:
        changes["plan"] = options["plan"]
    policy = policy_of(options, options["unset"])
    if policy.model_fields_set:
        changes["policy"] = policy
    if not changes:
        raise BadUsage(
            "nothing to change: give --plan, --no-plan, --unset or an option of a policy"
        )
    return changes


def _store(engine: AsyncEngine, settings: Settings) -> KeyStore:
    return KeyStore(
        engine,
        command_pepper(settings).encode(),
        cache_seconds=settings.key_cache_seconds,
        cache_entries=settings.key_cache_entries,
    )


def command_pepper(settings: Settings) -> str:
    """GATEWAY_KEY_PEPPER, or with the embedded database the one kept beside it.

    Raises SettingsError: a secret made under another pepper would open nothing.
    """
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value()
    if settings.database_url is not None:
        raise SettingsError(
            "GATEWAY_KEY_PEPPER: is not set; give it the value that `gateway serve` runs with"
        )
    try:
        return dev_pepper(settings.home)
    except (OSError, ValueError) as error:
        raise SettingsError(f"GATEWAY_HOME: {error}") from None


async def _all_keys(records: KeyRecords, tenant: str | None) -> list[KeyRecord]:
    return await all_records(
        lambda after: records.page(tenant=tenant, after=after, limit=MAX_PAGE_ROWS),
        lambda key: key.id,
    )


def _print_issued(issued: IssuedKey, *, as_json: bool) -> None:
    shown = issued_view(issued)
    if as_json:
        click.echo(shown.model_dump_json())
        return
    rows: list[tuple[str, object]] = [
        ("id", shown.id),
        ("name", shown.name),
        ("tenant", shown.tenant),
        *([] if shown.plan is None else [("plan", shown.plan)]),
        ("expires", minute(shown.expires_at) or "never"),
        ("secret", shown.secret),
    ]
    click.echo(fields(rows))
    click.echo(STORE_IT_NOW)


def _readable(key: KeyView) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("id", key.id),
        ("name", key.name),
        ("tenant", key.tenant),
        ("plan", key.plan),
        ("state", _state(key)),
        ("created", minute(key.created_at)),
        ("expires", minute(key.expires_at) or "never"),
    ]
    if key.revoked_at is not None:
        rows.append(("revoked", minute(key.revoked_at)))
    for secret in key.secrets:
        end = minute(secret.expires_at)
        rows.append(("secret", secret.hint if end is None else f"{secret.hint} until {end}"))
    return rows


def _policy_sections(key: KeyView) -> Iterator[str]:
    """The key's own policy, and what comes of it together with its plan."""
    if key.plan is None:
        yield section("policy", policy_lines(key.policy), empty="as the gateway's settings say")
        return
    yield section("policy", policy_lines(key.policy), empty="as the plan says")
    effective = policy_lines(key.effective_policy)
    yield section("effective policy", effective, empty="as the gateway's settings say")


def _row(key: KeyView) -> tuple[object, ...]:
    hints = " ".join(secret.hint for secret in key.secrets)
    created, expires = minute(key.created_at), minute(key.expires_at)
    return key.id, key.name, key.tenant, key.plan, _state(key), created, expires, hints


def _state(key: KeyView) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC).timestamp():
        return "expired"
    return "enabled" if key.enabled else "disabled"
