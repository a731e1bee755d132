"""`gateway tenants`: limits over all keys of a tenant together, and what becomes of its requests
while they cannot be recorded."""

import json
from typing import Unpack, get_args

import click
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import on_database
from app.cli.errors import BadUsage
from app.cli.json_option import as_json
from app.cli.limit_options import LimitOptions, limit_options, unset_option
from app.cli.moments import minute
from app.cli.policy_options import limits_of, policy_lines, reason
from app.cli.spent import spent_rows, spent_tokens
from app.cli.table import fields, section, table
from app.settings import Settings
from app.store.paging import MAX_PAGE_ROWS, all_records
from app.store.tenant import AuditOnFailure, Tenant, TenantChanges, TenantRecord
from app.store.tenant_records import TenantRecords
from app.store.tenant_view import TenantView, tenant_view

_NAMES: TypeAdapter[str] = TypeAdapter(Tenant)


class ChangeOptions(LimitOptions):
    audit_on_failure: AuditOnFailure | None
    unset: tuple[str, ...]


@click.group()
def tenants() -> None:
    """Limits over all keys of a tenant together, beside those of each key; and whether its requests
    go on while they cannot be recorded."""


@tenants.command("list")
@as_json
def list_tenants(*, as_json: bool) -> None:
    """List the tenants that have settings of their own, newest first."""

    async def step(engine: AsyncEngine, _: Settings) -> list[TenantRecord]:
        return await _all_tenants(TenantRecords(engine))

    found = [tenant_view(tenant) for tenant in on_database(step)]
    if as_json:
        for tenant in found:
            click.echo(tenant.model_dump_json())
    else:
        head = (
            "NAME",
            "KEYS",
            "RPM",
            "TPM",
            "CONCURRENCY",
            "TOKENS/DAY",
            "TOKENS/MONTH",
            "AUDIT-ON-FAILURE",
        )
        click.echo(table(head, (_row(tenant) for tenant in found)))


@tenants.command("show")
@click.argument("name", metavar="NAME")
@as_json
def show_tenant(name: str, *, as_json: bool) -> None:
    """Show a tenant's settings, and what its keys have spent together."""

    async def step(engine: AsyncEngine, _: Settings) -> tuple[TenantRecord, dict[str, int]]:
        found = await TenantRecords(engine).get(name)
        return found, await spent_tokens(engine, tenant=name)

    record, spent = on_database(step)
    tenant = tenant_view(record)
    if as_json:
        click.echo(json.dumps(tenant.model_dump(mode="json") | {"spent": spent}))
        return
    rows: list[tuple[str, object]] = [
        ("name", tenant.name),
        ("keys", tenant.keys),
        ("created", minute(tenant.created_at)),
        ("changed", minute(tenant.updated_at)),
        ("audit on failure", tenant.audit_on_failure),
        *spent_rows(spent),
    ]
    click.echo(fields(rows))
    click.echo(section("limits", policy_lines(tenant.limits), empty="none"))


@tenants.command("set")
@click.argument("name", metavar="NAME")
@limit_options
@click.option(
    "--audit-on-failure",
    type=click.Choice(get_args(AuditOnFailure)),
    help="While requests cannot be recorded: refuse them, or keep their metadata alone, in memory "
    "and on standard error.  [default: closed]",
)
@unset_option
@as_json
def set_tenant(name: str, *, as_json: bool, **options: Unpack[ChangeOptions]) -> None:
    """Change what is named, and nothing else. It acts everywhere within 5 seconds."""
    changes = _changes(options)
    try:
        _NAMES.validate_python(name)
    except ValidationError as error:
        raise BadUsage(f"NAME: {reason(error)}") from None
    changed = on_database(lambda engine, _: TenantRecords(engine).update(name, changes))
    tenant = tenant_view(changed)
    if as_json:
        click.echo(tenant.model_dump_json())
    else:
        keys = "1 key" if tenant.keys == 1 else f"{tenant.keys} keys"
        click.echo(f"changed {name}, which has {keys}")


@tenants.command("delete")
@click.argument("name", metavar="NAME")
def delete_tenant(name: str) -> None:
    """Take all settings of a tenant away. Its keys stay."""
    on_database(lambda engine, _: TenantRecords(engine).delete(name))
    click.echo(f"deleted the settings of {name}")


def _changes(options: ChangeOptions) -> TenantChanges:
    changes: TenantChanges = {}
    limits = limits_of(options, options["unset"])
    if limits.model_fields_set:
        changes["limits"] = limits
    if options["audit_on_failure"] is not None:
        changes["audit_on_failure"] = options["audit_on_failure"]
    if not changes:
        raise BadUsage("nothing to change: give a limit, --audit-on-failure or --unset")
    return changes


async def _all_tenants(records: TenantRecords) -> list[TenantRecord]:
    return await all_records(
        lambda after: records.page(after=after, limit=MAX_PAGE_ROWS),
        lambda tenant: tenant.name,
    )


def _row(tenant: TenantView) -> tuple[object, ...]:
    return (tenant.name, tenant.keys, *tenant.limits.model_dump().values(), tenant.audit_on_failure)
