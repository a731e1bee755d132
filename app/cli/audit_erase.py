"""`gateway audit erase`: what was said goes, that it was said stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.content import erasure
from app.audit.erasing import (
    ErasurePlan,
    contents_of_conversation,
    may_erase,
    plan_of_contents,
    plan_of_messages,
)
from app.audit.erasures import erasure_payload
from app.audit.exchange import address_of
from app.audit.search import find_audit_record
from app.audit.spool.frames import FrameKind
from app.cli.audit_note import note, operator
from app.cli.database import on_database
from app.cli.errors import BadUsage, CommandError, fail
from app.cli.table import table
from app.settings import Settings

MAX_SHOWN = 20  # of what would be erased; the rest is counted
EXCERPT_CHARACTERS = 48
# Of one event: some 0.3 MB, so that a conversation of any length fits into the spool.
MAX_ADDRESSES = 5_000


@click.command()
@click.option("--request", "request_id", metavar="ID", help="All that was said in this request.")
@click.option(
    "--conversation", metavar="ADDRESS", help="All turns of a conversation; `show` names it."
)
@click.option(
    "--message",
    "messages",
    metavar="ADDRESS",
    multiple=True,
    help="This message, as `show --json` names it; give more than one if need be.",
)
@click.option("--tenant", required=True, help="Whose it is.")
@click.option("--reason", required=True, help="Why; it is recorded.")
@click.option(
    "--with-system/--keep-system",
    default=False,
    help="Also system messages, and parameters that name nobody: other requests may share them.  "
    "[default: keep]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be erased, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(
    *,
    request_id: str | None,
    conversation: str | None,
    messages: tuple[str, ...],
    tenant: str,
    reason: str,
    with_system: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase what was said, for good. Who erased what and why is recorded first; the records of the
    requests stay, and the log can still be verified."""
    wanted = _Wanted(tenant, request_id, conversation, messages, with_system, reason)
    wanted.check()

    async def step(engine: AsyncEngine, settings: Settings) -> None:
        plan = await wanted.plan(engine)
        for line in _lines(plan):
            click.echo(line)
        if not plan.erased or dry_run:
            return
        if not await may_erase(engine):
            raise CommandError(
                "the database lets this user only add to the audit log: erase as the tables' owner"
            )
        if not yes:
            click.confirm("Erase this for good?", abort=True)
        by = operator()
        await _erase(engine, settings, plan, by=by, reason=reason)
        click.echo(f"erased {_count(len(plan.erased))} of {tenant}, recorded as done by {by}")

    on_database(step)


@dataclass(frozen=True, slots=True)
class _Wanted:
    tenant: str
    request_id: str | None
    conversation: str | None
    messages: tuple[str, ...]
    with_system: bool
    reason: str

    def check(self) -> None:
        """Raises BadUsage."""
        if not self.reason.strip():
            raise BadUsage("--reason: say why, as it is recorded")
        kinds = (self.request_id is not None, self.conversation is not None, bool(self.messages))
        if sum(kinds) != 1:
            raise BadUsage("give one of --request, --conversation and --message")
        for message in self.messages:
            _address("--message", message)
        if self.conversation is not None:
            _address("--conversation", self.conversation)

    async def plan(self, engine: AsyncEngine) -> ErasurePlan:
        if self.messages:
            addresses = [_address("--message", message) for message in self.messages]
            plan = await plan_of_messages(engine, self.tenant, addresses)
            if plan.unknown:
                fail(f"{self.tenant!a} has no message {plan.unknown[0].hex()}")
            return plan
        if self.conversation is not None:
            contents = await contents_of_conversation(engine, self.tenant, self.conversation)
            if not contents:
                fail(f"{self.tenant!a} has no request of the conversation {self.conversation!a}")
        else:
            contents = await self._of_request(engine, self.request_id or "")
        return await plan_of_contents(engine, self.tenant, contents, with_system=self.with_system)

    async def _of_request(self, engine: AsyncEngine, request_id: str) -> list[dict[str, Any]]:
        record = await find_audit_record(engine, request_id)
        if record is None or record.tenant != self.tenant:
            fail(f"there is no audit record of {self.tenant!a} with the request id {request_id!a}")
        if record.outcome is None:
            fail("the request has not ended: erase it once it has")
        return [] if record.content is None else [record.content]


async def _erase(
    engine: AsyncEngine, settings: Settings, plan: ErasurePlan, *, by: str, reason: str
) -> None:
    """Recorded first, so that nothing is ever gone and nobody knows why."""
    addresses = [each.address for each in plan.erased]
    parts = [
        addresses[start : start + MAX_ADDRESSES]
        for start in range(0, len(addresses), MAX_ADDRESSES)
    ]
    payloads = [erasure_payload(plan.tenant, part, by=by, reason=reason) for part in parts]
    await note(engine, settings, FrameKind.ERASURE, payloads)
    for part in parts:
        await erasure.erase(engine, plan.tenant, part)


def _lines(plan: ErasurePlan) -> Iterator[str]:
    if plan.erased:
        yield table(
            ("ADDRESS", "WHAT", "BYTES", "BEGINS"),
            (
                (each.address.hex(), each.what, each.body_bytes, each.excerpt[:EXCERPT_CHARACTERS])
                for each in plan.erased[:MAX_SHOWN]
            ),
        )
    if len(plan.erased) > MAX_SHOWN:
        yield f"and {len(plan.erased) - MAX_SHOWN} more"
    if plan.kept:
        yield f"kept, as others may share it: {plan.kept}; --with-system erases that, too"
    if not plan.erased:
        yield "nothing is left to erase"


def _count(messages: int) -> str:
    return "1 message" if messages == 1 else f"{messages} messages"


def _address(option: str, value: str) -> bytes:
    address = address_of(value)
    if address is None:
        raise BadUsage(f"{option}: {value!a} is no address of 64 hexadecimal digits")
    return address
