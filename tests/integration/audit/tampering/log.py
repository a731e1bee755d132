"""A log that tests do something to, as whoever owns the database could."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import GENESIS, link
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.log_reader import Part
from app.audit.verify.findings import Finding, Report
from tests.integration.audit.replica import WHOLE, tamper, verified

REQUESTS = 4
STRANGER = derived_signing_keys(b"another pepper")
CHECKPOINT, CLOSING = 6, 11  # the events of the first chain that are such
CUT = "DELETE FROM audit_events WHERE writer = :writer AND sequence > 5"


@dataclass(frozen=True)
class Log:
    """Two closed chains. That of `writer` has REQUESTS requests, `req_0` in the events 2 and 3, and
    so on; a checkpoint behind the second one, and the closing one. `other` came later, and so its
    row of the register witnesses the first."""

    engine: AsyncEngine
    root: Path
    writer: str
    other: str
    addresses: dict[str, str]  # of req_1

    async def sql(self, *statements: str, **values: object) -> None:
        await tamper(self.engine, *statements, writer=self.writer, other=self.other, **values)

    async def first_finding(self, *, second_place: bool = True) -> Finding:
        """Of the chain of `writer`, or of what is in none."""
        report = await self.verified(second_place=second_place)
        of_ours = [each for each in report.findings.first if each.writer in (self.writer, None)]
        assert of_ours, "nothing was found"
        return of_ours[-1]

    async def verified(
        self, *, second_place: bool = True, later_seconds: float = 0.0, part: Part = WHOLE
    ) -> Report:
        root = self.root if second_place else None
        return await verified(self.engine, root, later_seconds=later_seconds, part=part)


Change = Callable[[int, bytes], Awaitable[bytes]]


async def rehash(log: Log, change: Change, *, until: int = CLOSING) -> None:
    """An editor who knows how the chain is made makes it anew."""
    async with log.engine.begin() as connection:
        rows = await connection.execute(
            text(
                "SELECT sequence, kind, payload, "
                "(extract(epoch FROM recorded_at) * 1000000)::bigint AS at, hash "
                "FROM audit_events WHERE writer = :writer ORDER BY sequence"
            ),
            {"writer": log.writer},
        )
        head = GENESIS
        for row in rows.all():
            if row.sequence > until:
                return
            payload = await change(row.sequence, row.payload)
            head = link(head, row.kind, row.at, payload)
            await connection.execute(
                text(
                    "UPDATE audit_events SET payload = :payload, hash = :hash "
                    "WHERE writer = :writer AND sequence = :sequence"
                ),
                {
                    "payload": payload,
                    "hash": head.hash,
                    "writer": log.writer,
                    "sequence": row.sequence,
                },
            )


async def cancelled(sequence: int, payload: bytes) -> bytes:
    """Says of the first request that it ended otherwise."""
    return payload.replace(b"completed", b"cancelled") if sequence == 3 else payload
