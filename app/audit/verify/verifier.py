"""A whole log, or a part of it: its chains, its register, its messages. Nothing here does I/O.

Whoever has the evidence feeds it: chain by chain, each in order, then the messages, then `finish`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from heapq import merge
from typing import Any

from app.audit.chain import ChainHead
from app.audit.content.nodes import ADDRESS_BYTES, StoredMessage
from app.audit.log_reader import Part
from app.audit.partitions import MESSAGE_DAYS_LONGER
from app.audit.spool.frames import FrameKind
from app.audit.verify.chain import MAX_UNCOVERED_SECONDS, ChainVerifier, Ended, Noted
from app.audit.verify.dropped import dropped_heads
from app.audit.verify.evidence import Reference, RegisterRow, Statement
from app.audit.verify.findings import Finding, Problem, Report
from app.audit.verify.limits import Limits
from app.audit.verify.published import PublishedCheckpoints
from app.audit.verify.register import check_register, statements_of

# What was just written is at the second place before it is in the database; a shipper that is
# farther behind has alarmed.
SHIPPING_SECONDS = 300.0

WHOLE = Part()

_Message = tuple[str, bytes]  # tenant and address


class Verifier:
    """`keys` are public keys in hexadecimal digits. `shipped` is how far the log itself says that
    each chain was stored, and is to be read before the chains. Of a `part` each chain is fed from
    the event before its first one on.
    """

    def __init__(
        self,
        keys: Collection[str],
        *,
        register: Sequence[RegisterRow],
        shipped: Mapping[str, ChainHead],
        published: PublishedCheckpoints,
        report: Report,
        now: float,
        part: Part = WHOLE,
    ) -> None:
        """`now` in wall-clock seconds since the epoch."""
        self.report = report
        self._keys = frozenset(keys)
        self._registered = {row.writer: row for row in register}
        self._witnessed = statements_of(register)
        self._shipped = shipped
        self._published = published
        self._now = now
        self._part = part
        self._limits = Limits(part, self._registered)
        self._ended: dict[str, Ended] = {}
        self._signed_register: dict[int, bytes] = {}
        self._unpublished: dict[str, int] = {}
        self._dropped: dict[str, list[ChainHead]] = {}
        self._dropped_before = date.min
        self._erased: set[_Message] = set()
        self._missing: dict[_Message, Reference] = {}
        self._missing_parents: dict[_Message, bytes] = {}  # and of which message
        self._tombstones: dict[_Message, date] = {}

    @property
    def known_writers(self) -> set[str]:
        """Of whom there should be chains."""
        return {*self._registered, *self._witnessed, *self._shipped, *self._published.writers}

    @property
    def wanted_writers(self) -> set[str]:
        """Of whom there should be something in this part."""
        return {each for each in self.known_writers if self._may_be_in_part(each)}

    def chain(self, writer: str) -> ChainVerifier:
        """To be fed with all events of that writer, and then given to `chain_ended`."""
        published = self._published.last(writer)
        statements = self._statements(writer)
        return ChainVerifier(writer, self._keys, statements, self.report, published=published)

    def chain_ended(self, chain: ChainVerifier) -> None:
        ended = chain.end(self._now)
        self._signed_register |= chain.register
        for noted in ended.noted:
            if noted.event.sequence <= ended.covered:
                self._believe(noted)
            else:
                self.report.notes.append(
                    f"event {noted.event.sequence} of {ended.writer}, which says what was erased "
                    "or dropped, is not signed yet, and not believed"
                )
        self._ended[ended.writer] = ended
        lacking = chain.unpublished
        if lacking is not None and self._now - lacking.at.timestamp() > SHIPPING_SECONDS:
            self._unpublished[ended.writer] = lacking.sequence

    def message(self, stored_on: date, message: StoredMessage) -> None:
        """One row of the messages."""
        self.report.messages += 1
        if message.erased:
            self._tombstones[message.tenant, message.address] = stored_on
        elif not message.intact:
            self._tell(
                Problem.MESSAGE_CHANGED,
                f"message {message.address.hex()} of tenant {message.tenant!r}, stored on "
                f"{stored_on}: it is not what its address says",
            )

    def missing(self, reference: Reference) -> None:
        """No message has that address on these days."""
        known = self._missing.setdefault((reference.tenant, reference.address), reference)
        if known.first_day < reference.first_day:  # told of by the first, and kept for the last
            known = replace(known, first_day=reference.first_day)
            self._missing[reference.tenant, reference.address] = known

    def missing_parent(self, tenant: str, parent: bytes, child: bytes) -> None:
        """A message is there, and the one before it is not."""
        self._missing_parents.setdefault((tenant, parent), child)

    def finish(self, register: Sequence[RegisterRow]) -> Report:
        """`register` is read after the chains: what they sign of it is there by then."""
        for ended in self._ended.values():
            self._check_beginning(ended)
            self._check_end(ended)
        for writer in sorted(self.known_writers - self._ended.keys()):
            if self._may_be_in_part(writer):
                self._check_vanished(writer)
        check_register(register, {**self._signed_register, **self._published.register}, self.report)
        self._check_messages()
        self._note_unpublished()
        self._note_part()
        return self.report

    # -- chains

    def _statements(self, writer: str) -> Iterator[Statement]:
        shipped = self._shipped.get(writer)
        noted = [] if shipped is None else [Statement(shipped, "audit_spool_offsets")]
        statements = merge(
            self._witnessed.get(writer, []),
            noted,
            self._published.statements(writer),
            key=lambda statement: statement.head.sequence,
        )
        return self._limits.marked(writer, statements)

    def _check_beginning(self, ended: Ended) -> None:
        first = ended.first
        if first is None:
            return
        row = self._registered.get(ended.writer)
        if row is None:
            self._tell(
                Problem.UNREGISTERED, "the register does not know its chain", ended.writer, 1
            )
        if first.sequence == 1:
            if row is not None and row.registered_at not in (None, first.at):
                what = f"row {row.number} of the register: its time is not that of its chain"
                self._tell(Problem.REGISTER, what)
            return
        if self._limits.is_older(first.at):
            return
        dropped = max(self._dropped.get(ended.writer, []), default=None)
        if dropped is None or dropped.sequence < first.sequence - 1:
            what = f"it and all up to {first.sequence - 1} are missing, and no event says why"
            known = 1 if dropped is None else dropped.sequence + 1
            if not self._limits.has_beginning_of(ended.writer):
                what = "it is missing, and maybe more before it, and no event says why"
                known = first.sequence - 1
            self._tell(Problem.MISSING, what, ended.writer, known)
        elif dropped.sequence == first.sequence - 1 and first.behind(dropped) != first.head:
            what = "it does not follow from what was dropped before it"
            self._tell(Problem.CHANGED, what, ended.writer, first.sequence)

    def _check_end(self, ended: Ended) -> None:
        if not ended.ahead:
            if self._part.until is None:
                self._note_silence(ended)
            return
        first, last = ended.ahead[0], ended.ahead[-1]
        missing = max(last.head.sequence, ended.last + 1)
        what = f"{first.source} states event {first.head.sequence}"
        if first.closed and first.head.sequence == ended.last:
            what = f"{first.source} closes the chain, and the closing event is missing"
        if self._may_come(ended.writer, first):
            self.report.notes.append(
                f"{ended.writer}: {missing - ended.last} events are not in the database yet, or "
                f"not any more: {what}. Verify again in {SHIPPING_SECONDS / 60:.0f} minutes."
            )
            return
        self._tell(
            Problem.CUT, f"it and all that follow are missing: {what}", ended.writer, ended.last + 1
        )

    def _note_silence(self, ended: Ended) -> None:
        """A living process signs every few seconds, also when idle, and one that ends closes its
        chain. A spool that has not been shipped for long looks the same, and is no finding."""
        if ended.first is None or ended.closed:
            return
        silent_seconds = self._now - ended.last_at / 1e6
        if silent_seconds > MAX_UNCOVERED_SECONDS:
            self.report.notes.append(
                f"{ended.writer}: its chain is not closed, and nothing of it is here that was "
                f"recorded in the last {silent_seconds / 3600:.0f} h. Its end was cut off, or "
                "its spool is lost, or was not shipped yet."
            )

    def _may_come(self, writer: str, statement: Statement) -> bool:
        """Whether its events may still be on their way into the database."""
        shipped = self._shipped.get(writer)
        # What closes a chain is the event behind the one that it states.
        last = statement.head.sequence + statement.closed
        if statement.at is None or shipped is None or shipped.sequence >= last:
            return False
        return self._now - statement.at.timestamp() < SHIPPING_SECONDS

    def _may_be_in_part(self, writer: str) -> bool:
        """It costs the reading of all that is stated of the chain to know it better."""
        return self._published.may_be_within(writer, self._part) or (
            self._part.until is None and self._limits.has_beginning_of(writer)
        )

    def _check_vanished(self, writer: str) -> None:
        dropped = max(self._dropped.get(writer, []), default=ChainHead(0, b"")).sequence
        missing: tuple[int, Statement] | None = None
        for statement in self._statements(writer):
            floor = self._limits.floor(writer)
            if floor is None or not statement.binding or self._may_come(writer, statement):
                continue
            if statement.head.sequence > max(floor, dropped):
                missing = missing or (max(floor, dropped) + 1, statement)
        if missing is not None:
            number, statement = missing
            what = f"{statement.source} states event {statement.head.sequence}"
            all_of_it = "all of its chain is" if number == 1 else "it and all that follow are"
            what = f"{all_of_it} missing: {what}"
            self._tell(Problem.VANISHED, what, writer, number)

    def _note_unpublished(self) -> None:
        """Whoever cuts the second place first may cut the log later, and is found by neither."""
        name = self._published.name
        if name is None or not self._unpublished:
            return
        writer, sequence = next(iter(sorted(self._unpublished.items())))
        more = len(self._unpublished) - 1
        self.report.notes.append(
            f"{name} lacks checkpoints that the log has, of {writer} from event {sequence} on"
            f"{f' and of {more} chains more' if more else ''}: they went elsewhere, or it was cut "
            "back. It does not tell whether the end of these chains is missing."
        )

    def _note_part(self) -> None:
        if self._part.whole:
            return
        told = "nothing here has any"
        if self._published.writers:
            told = f"{self._published.name} has what there is of them"
        self.report.notes.append(
            "Only a part of the log was verified. That a chain lacks its end or is missing is told "
            f"in it by checkpoints that were made within it ({told}), and of chains without such "
            "by a verification of the whole log."
        )

    # -- what events say of the log itself

    def _believe(self, noted: Noted) -> None:
        if noted.event.kind == FrameKind.ERASURE:
            tenant = noted.values.get("tenant")
            for address in _addresses(noted.values.get("addresses")):
                self._erased.add((str(tenant), address))
            return
        self._dropped_before = max(self._dropped_before, _day(noted.values.get("before")))
        for writer, head in dropped_heads(noted.values).items():
            self._dropped.setdefault(writer, []).append(head)

    # -- messages

    def _check_messages(self) -> None:
        kept_from = self._dropped_before
        if kept_from > date.min:
            kept_from -= timedelta(MESSAGE_DAYS_LONGER)
        for message, reference in self._missing.items():
            if message not in self._erased and not reference.may_be_older_than(kept_from):
                self._tell(
                    Problem.MESSAGE_MISSING,
                    f"its message {reference.address.hex()} of tenant {reference.tenant!r} is "
                    "missing, and no event says that it was erased",
                    reference.writer,
                    reference.sequence,
                    reference.request_id,
                )
        for (tenant, address), child in self._missing_parents.items():
            if (tenant, address) not in self._erased | self._missing.keys():
                self._tell(
                    Problem.MESSAGE_MISSING,
                    f"message {address.hex()} of tenant {tenant!r}, before {child.hex()}, is "
                    "missing, and no event says that it was erased",
                )
        for (tenant, address), stored_on in self._tombstones.items():
            # Messages are kept for a day longer than the event that says of their erasure.
            if stored_on >= self._dropped_before and (tenant, address) not in self._erased:
                self._tell(
                    Problem.MESSAGE_ERASED,
                    f"message {address.hex()} of tenant {tenant!r}, stored on {stored_on}, was "
                    "erased, and no event says so",
                )

    def _tell(
        self,
        problem: Problem,
        what: str,
        writer: str | None = None,
        sequence: int | None = None,
        request_id: str | None = None,
    ) -> None:
        self.report.findings.add(Finding(problem, what, writer, sequence, request_id))


def _addresses(value: Any) -> list[bytes]:
    found = []
    for name in value if isinstance(value, list) else []:
        try:
            address = bytes.fromhex(name)
        except (TypeError, ValueError):
            continue
        if len(address) == ADDRESS_BYTES:
            found.append(address)
    return found


def _day(value: Any) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return date.min
