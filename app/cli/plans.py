"""`gateway plans`: named policies that keys refer to."""

from typing import Unpack

import click
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.cli.database import on_database
from app.cli.errors import BadUsage
from app.cli.json_option import as_json
from app.cli.limit_options import unset_option
from app.cli.moments import minute
from app.cli.policy_options import PolicyOptions, policy_lines, policy_of, policy_options, reason
from app.cli.table import fields, section, table
from app.settings import Settings
from app.store.paging import MAX_PAGE_ROWS, all_records
from app.store.plan import PlanDraft, PlanRecord
from app.store.plan_records import PlanRecords
from app.store.plan_view import PlanView, plan_view


class ChangeOptions(PolicyOptions):
    unset: tuple[str, ...]


@click.group()
def plans() -> None:
    """Policies with a name, which keys refer to: a thousand keys change with one edit."""


@plans.command("create")
@click.argument("name", metavar="NAME")
@policy_options
@as_json
def create_plan(name: str, *, as_json: bool, **options: Unpack[PolicyOptions]) -> None:
    """Make a plan of the options of a policy."""
    policy = policy_of(options)
    try:
        draft = PlanDraft(name=name, policy=policy)
    except ValidationError as error:
        raise BadUsage(f"NAME: {reason(error)}") from None
    plan = plan_view(on_database(lambda engine, _: PlanRecords(engine).create(draft)))
    click.echo(plan.model_dump_json() if as_json else f"created {name}")


@plans.command("list")
@as_json
def list_plans(*, as_json: bool) -> None:
    """List plans, newest first."""

    async def step(engine: AsyncEngine, _: Settings) -> list[PlanRecord]:
        return await _all_plans(PlanRecords(engine))

    found = [plan_view(plan) for plan in on_database(step)]
    if as_json:
        for plan in found:
            click.echo(plan.model_dump_json())
    else:
        head = ("NAME", "KEYS", "CREATED", "CHANGED", "SETS")
        click.echo(table(head, (_row(plan) for plan in found)))


@plans.command("show")
@click.argument("name", metavar="NAME")
@as_json
def show_plan(name: str, *, as_json: bool) -> None:
    """Show a plan with its policy, and how many keys refer to it."""
    plan = plan_view(on_database(lambda engine, _: PlanRecords(engine).get(name)))
    if as_json:
        click.echo(plan.model_dump_json())
        return
    rows: list[tuple[str, object]] = [
        ("name", plan.name),
        ("keys", plan.keys),
        ("created", minute(plan.created_at)),
        ("changed", minute(plan.updated_at)),
    ]
    click.echo(fields(rows))
    click.echo(section("policy", policy_lines(plan.policy), empty="as the gateway's settings say"))


@plans.command("set")
@click.argument("name", metavar="NAME")
@policy_options
@unset_option
@as_json
def set_plan(name: str, *, as_json: bool, **options: Unpack[ChangeOptions]) -> None:
    """Change what is named of a plan, and nothing else. It acts on all of its keys, everywhere
    within 5 seconds."""
    policy = policy_of(options, options["unset"])
    if not policy.model_fields_set:
        raise BadUsage("nothing to change: give an option of a policy or --unset")
    changed = on_database(lambda engine, _: PlanRecords(engine).update(name, {"policy": policy}))
    plan = plan_view(changed)
    click.echo(plan.model_dump_json() if as_json else f"changed {name}")


@plans.command("delete")
@click.argument("name", metavar="NAME")
def delete_plan(name: str) -> None:
    """Delete a plan that no key refers to; keys that are revoked do not count."""
    on_database(lambda engine, _: PlanRecords(engine).delete(name))
    click.echo(f"deleted {name}")


async def _all_plans(records: PlanRecords) -> list[PlanRecord]:
    return await all_records(
        lambda after: records.page(after=after, limit=MAX_PAGE_ROWS),
        lambda plan: plan.name,
    )


def _row(plan: PlanView) -> tuple[object, ...]:
    names = " ".join(name for name, _ in policy_lines(plan.policy)) or None
    return plan.name, plan.keys, minute(plan.created_at), minute(plan.updated_at), names
