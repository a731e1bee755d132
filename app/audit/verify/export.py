"""An export, verified by whoever has it: no database and no secret is needed."""

import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import BinaryIO

from app.audit.address_book import AddressBook
from app.audit.content.nodes import ROOT
from app.audit.export.formats import read_export
from app.audit.export.records import (
    End,
    ExportedMessage,
    ExportUnreadable,
    Manifest,
    PublishedCheckpoint,
    Record,
)
from app.audit.verify.chain import ChainVerifier
from app.audit.verify.evidence import RegisterRow, StoredEvent
from app.audit.verify.findings import Report
from app.audit.verify.published import PublishedCheckpoints
from app.audit.verify.verifier import Verifier

_COPY_BYTES = 1024 * 1024


def verify_export(
    path: Path,
    keys: Collection[str],
    *,
    now: float,
    checkpoints: Path | None = None,
    content: bool = True,
    progress: Callable[[int], None] = lambda count: None,
) -> Report:
    """`checkpoints` is a copy of the second place that did not come with the export, and so says
    more. `now` in wall-clock seconds since the epoch; `progress` is told of bytes.

    Raises ExportUnreadable, OSError and ParquetMissing.
    """
    records = read_export(path, progress)
    manifest = next(records, None)
    if not isinstance(manifest, Manifest):
        raise ExportUnreadable(f"{path} does not begin as an export does")
    with ExitStack() as stack:
        published = stack.enter_context(tempfile.TemporaryFile())
        if checkpoints is not None:
            with checkpoints.open("rb") as given:
                while data := given.read(_COPY_BYTES):
                    published.write(data)
            published.write(b"\n")
        book = AddressBook()
        stack.callback(book.close)
        reading = _Reading(manifest, keys, published, book, now=now, content=content)
        for record in records:
            reading.take(record)
        return reading.finish()


class _Reading:
    """Takes the records of an export in their order."""

    def __init__(
        self,
        manifest: Manifest,
        keys: Collection[str],
        published: BinaryIO,
        book: AddressBook,
        *,
        now: float,
        content: bool,
    ) -> None:
        self._manifest = manifest
        self._part = manifest.part
        self._keys = keys
        self._published = published
        self._book = book
        self._now = now
        self._content = content and manifest.content
        self._report = Report(subject=_claims(manifest))
        self._register: list[RegisterRow] = []
        self._checkpoints = 0
        self._verifier: Verifier | None = None  # made with the first event
        self._chain: ChainVerifier | None = None
        self._ended: set[str] = set()
        self._oldest = date.max  # day of the messages
        self._messages = 0
        self._end: End | None = None

    def take(self, record: Record) -> None:
        if self._end is not None:
            raise ExportUnreadable("something follows the end of the export")
        if isinstance(record, StoredEvent):
            self._take_event(record)
        elif isinstance(record, ExportedMessage):
            self._take_message(record)
        elif isinstance(record, RegisterRow):
            self._register.append(record)
        elif isinstance(record, PublishedCheckpoint):
            self._checkpoints += 1
            self._published.write(record.payload + b"\n")
        elif isinstance(record, End):
            self._end = record
        else:
            raise ExportUnreadable("an export has one manifest")

    def finish(self) -> Report:
        verifier = self._ready()
        self._end_chain()
        self._check_end()
        if self._content:
            # An answer that was recovered late follows what was stored before this part.
            first_day = self._part.days[0]
            older = set()
            for reference in self._book.missing():
                if reference.may_be_older_than(first_day):
                    older.add((reference.tenant, reference.address))
                else:
                    verifier.missing(reference)
            for tenant, parent, child in self._book.missing_parents(self._oldest):
                if (tenant, parent) not in older:
                    verifier.missing_parent(tenant, parent, child)
        else:
            self._report.notes.append("The messages were not verified, or are not in the export.")
        return verifier.finish(self._register)

    def _ready(self) -> Verifier:
        if self._verifier is None:
            self._verifier = Verifier(
                self._keys,
                register=self._register,
                shipped=self._manifest.shipped,
                published=PublishedCheckpoints(
                    self._published, self._keys, self._report, "the second place"
                ),
                report=self._report,
                now=self._now,
                part=self._part,
            )
        return self._verifier

    def _take_event(self, event: StoredEvent) -> None:
        if self._chain is None or self._chain.writer != event.writer:
            self._end_chain()
            if event.writer in self._ended:
                raise ExportUnreadable(f"the events of {event.writer} are not together")
            self._chain = self._ready().chain(event.writer)
        self._chain.feed(event)
        if self._content:
            self._book.want(self._chain.references)
        self._chain.references.clear()

    def _take_message(self, record: ExportedMessage) -> None:
        self._messages += 1
        if not self._content:
            return
        message = record.message
        self._ready().message(record.stored_on, message)
        self._oldest = min(self._oldest, record.stored_on)
        self._book.add(message.tenant, message.address)
        if message.parent != ROOT:
            self._book.want_parent(
                message.tenant, message.parent, message.address, record.stored_on
            )

    def _end_chain(self) -> None:
        if self._chain is not None:
            self._ended.add(self._chain.writer)
            self._ready().chain_ended(self._chain)
            self._chain = None

    def _check_end(self) -> None:
        there = End(self._report.events, self._messages, len(self._register), self._checkpoints)
        if self._end is None:
            raise ExportUnreadable("the export is cut off")
        if self._end != there:
            raise ExportUnreadable(
                f"the export is not whole: {there}, and it should be {self._end}"
            )


def _claims(manifest: Manifest) -> str:
    """What it is, in the words of whoever made it."""
    parts = ["the whole log" if manifest.part.whole else "what was recorded"]
    if manifest.since is not None:
        parts.append(f"since {manifest.since}")
    if manifest.until is not None:
        parts.append(f"before {manifest.until}")
    if manifest.tenant is not None:
        parts.append(f"with requests of tenant {manifest.tenant!r} alone")
    if manifest.key is not None:
        parts.append(f"with requests of key {manifest.key!r} alone")
    parts.append("with what was said" if manifest.content else "without what was said")
    return f"{' '.join(parts)}, made at {manifest.made_at} by version {manifest.version}"
