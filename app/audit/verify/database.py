"""The log in Postgres, verified.

What the log says of itself is read first: each chain is then at least as long as it says. The
register is read again at the end, when every row that a chain signs is there.
"""

from collections.abc import Callable, Collection
from datetime import date, timedelta
from itertools import islice

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.log_reader import PAGE_EVENTS, BeyondBounds, LogReader, Part
from app.audit.part_reader import PartReader
from app.audit.verify.chain import ChainVerifier
from app.audit.verify.evidence import Reference, StoredEvent
from app.audit.verify.findings import Finding, Problem, Report
from app.audit.verify.published import PublishedCheckpoints
from app.audit.verify.stored_messages import verify_messages
from app.audit.verify.verifier import Verifier

_EPOCH = date(1970, 1, 1)

Progress = Callable[[int], None]  # so many more events or messages were read


class DatabaseVerification:
    """`content`: the messages, too. `now` in wall-clock seconds since the epoch."""

    def __init__(
        self,
        engine: AsyncEngine,
        keys: Collection[str],
        published: PublishedCheckpoints,
        report: Report,
        *,
        now: float,
        part: Part,
        content: bool = True,
        progress: Progress = lambda count: None,
    ) -> None:
        self._reader = LogReader(engine, part)
        self._chains = PartReader(engine, part)
        self._keys = keys
        self._published = published
        self._report = report
        self._now = now
        self._part = part
        self._content = content
        self._progress = progress

    async def run(self) -> Report:
        """Raises DatabaseUnavailable."""
        reader = self._reader
        writers = await self._chains.writers()
        verifier = Verifier(
            self._keys,
            shipped=await reader.shipped(),
            register=await reader.register(),
            published=self._published,
            report=self._report,
            now=self._now,
            part=self._part,
        )
        # One that registered meanwhile is there, too, and one that is gone was looked for.
        writers |= verifier.wanted_writers
        for writer in sorted(writers):
            await self._verify_chain(verifier, writer)
        for event in await reader.beyond_bounds():
            self._report.findings.add(_made_up(event))
        if self._content:
            await verify_messages(reader, verifier, self._part.days, self._progress)
        return verifier.finish(await reader.register())

    async def _verify_chain(self, verifier: Verifier, writer: str) -> None:
        chain = verifier.chain(writer)
        is_there = False
        async for events in self._chains.chain(writer):
            await self._feed(verifier, chain, events)
            is_there = True
        if is_there:
            verifier.chain_ended(chain)

    async def _feed(
        self, verifier: Verifier, chain: ChainVerifier, events: list[StoredEvent]
    ) -> None:
        for event in events:
            chain.feed(event)
        references, chain.references = chain.references, []
        if self._content:
            distinct = {(each.tenant, each.address): each for each in references}
            wanted = iter(distinct.values())
            while batch := list(islice(wanted, PAGE_EVENTS)):
                for reference in await self._missing(batch):
                    verifier.missing(reference)
        self._progress(len(events))

    async def _missing(self, batch: list[Reference]) -> list[Reference]:
        missing = await self._reader.missing_messages(
            [(each.tenant, each.address) for each in batch],
            _EPOCH + timedelta(days=min(each.first_day for each in batch)),
            _EPOCH + timedelta(days=max(each.last_day for each in batch)),
        )
        return [batch[place] for place in missing]


def _made_up(event: BeyondBounds) -> Finding:
    what = f"it was inserted: no gateway records anything at {event.recorded_at}"
    return Finding(Problem.INSERTED, what, event.writer, event.sequence, event.request_id)
