"""Events and messages as the shipper leaves them in the database, without a spool."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.chain import GENESIS, link
from app.audit.content.answers import answer_content
from app.audit.content.nodes import TenantAddresses, read_message_payload
from app.audit.content.redaction import Redaction
from app.audit.content.request import content_of
from app.audit.content.stored_today import StoredToday
from app.audit.partitions import make_partition
from app.audit.projection import columns_of
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.stored import Batch, Row, event_row, message_row, store, storing

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROUTE = "/v1/chat/completions"


class EventLog:
    """One writer's chain. Moments are told in minutes before `now`."""

    def __init__(self, engine: AsyncEngine, writer: str = "a" * 32) -> None:
        self.now = datetime.now(UTC)
        self.writer = writer
        self.engine = engine
        self._head = GENESIS
        self._addresses = TenantAddresses(b"pepper")

    async def request(
        self,
        request_id: str,
        minutes_ago: float,
        *,
        outcome: str | None = Outcome.COMPLETED,
        status: int = 200,
        of_outcome: Mapping[str, Any] | None = None,
        sent: Mapping[str, Any] | None = None,
        answers: Sequence[Mapping[str, Any]] = (),
        **of_intent: Any,
    ) -> None:
        """A request that began and ended at that moment, or without an `outcome` only began. With
        `sent`, its body, that and its answers are kept."""
        at = self._at(minutes_ago)
        intent = AuditIntent(
            request_id, (self.now - timedelta(minutes=minutes_ago)).timestamp(), ROUTE, **of_intent
        )
        events = [self._event(FrameKind.INTENT, at, encode_intent(intent))]
        messages: list[Row] = []
        if outcome is not None:
            ended = replace(
                AuditOutcome(request_id, Outcome(outcome), status, **of_outcome or {}),
                received_at=intent.received_at,
                route=intent.route,
                key_id=intent.key_id,
                tenant=intent.tenant,
                model=intent.model,
            )
            if sent is not None:
                payloads, content = self._content(intent.tenant or "", sent, answers)
                messages = [message_row(at, read_message_payload(each)) for each in payloads]
                ended = replace(ended, content=content)
            events.append(self._event(FrameKind.OUTCOME, at, encode_outcome(ended)))
        await self._store(Batch(events, messages))

    async def event(self, kind: FrameKind, payload: bytes, *, minutes_ago: float = 0) -> None:
        await self._store(Batch([self._event(kind, self._at(minutes_ago), payload)], []))

    async def _store(self, batch: Batch) -> None:
        for day in batch.days:
            await make_partition(self.engine, day)
        async with storing(self.engine) as connection:
            await store(connection, batch)

    def _content(
        self, tenant: str, sent: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
    ) -> tuple[list[bytes], dict[str, Any]]:
        redaction, nothing = Redaction(), StoredToday(0, self.now.timestamp)
        asked = content_of(sent, tenant, self._addresses, nothing, redaction)
        by_choice = {number: dict(answer) for number, answer in enumerate(answers)}
        answered = answer_content(
            by_choice, tenant, asked.content["prompt"], self._addresses, redaction
        )
        content = {**asked.content, "answers": answered.answers}
        return [*asked.payloads, *answered.payloads], content

    def _event(self, kind: FrameKind, at: int, payload: bytes) -> Row:
        self._head = link(self._head, kind, at, payload)
        columns = columns_of(kind, payload)
        return event_row(self.writer, self._head, int(kind), at, payload, columns)

    def _at(self, minutes_ago: float) -> int:
        return (self.now - timedelta(minutes=minutes_ago) - EPOCH) // timedelta(microseconds=1)
