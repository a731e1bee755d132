"""What a verification says of a log."""

from dataclasses import dataclass, field
from enum import StrEnum

# Of one chain, and of what is in none. The first one matters; the rest shows how far it goes.
MAX_FINDINGS = 20


class Problem(StrEnum):
    """Each is something that no gateway does."""

    CHANGED = "changed"  # an event does not fit its hash
    HASH_CHANGED = "hash_changed"  # a hash does not fit its event, and the next one does
    COLUMN_CHANGED = "column_changed"  # a column is not what the payload says
    MISSING = "missing"
    INSERTED = "inserted"
    REWRITTEN = "rewritten"  # all hashes fit, and another one was signed, witnessed or noted
    FORGED = "forged"  # a checkpoint that is none of ours
    CUT = "cut"  # the end is missing
    VANISHED = "vanished"  # all of a chain is missing
    UNREGISTERED = "unregistered"  # a chain, or its beginning, that the register does not know
    REGISTER = "register"  # the register itself
    AFTER_THE_END = "after_the_end"  # events behind the closing checkpoint
    UNPROVEN = "unproven"  # no checkpoint covers it, and none will
    NO_OUTCOME = "no_outcome"  # a request of a closed chain that never ended
    SECOND_OUTCOME = "second_outcome"
    MESSAGE_CHANGED = "message_changed"
    MESSAGE_MISSING = "message_missing"
    MESSAGE_ERASED = "message_erased"  # and no event says so


@dataclass(frozen=True, slots=True)
class Finding:
    """`sequence` and `request_id` name the first bad record, as far as it can be told; where all
    that is known is that it is one of several, the first of them."""

    problem: Problem
    what: str
    writer: str | None = None
    sequence: int | None = None
    request_id: str | None = None


@dataclass(slots=True)
class Findings:
    """Keeps the first MAX_FINDINGS of each chain, and counts the rest."""

    by_writer: dict[str | None, list[Finding]] = field(default_factory=dict)
    total: int = 0

    def add(self, finding: Finding) -> None:
        self.total += 1
        kept = self.by_writer.setdefault(finding.writer, [])
        if len(kept) < MAX_FINDINGS:
            kept.append(finding)

    def in_order(self) -> list[Finding]:
        """Of each chain by the number of the record, the rest first."""
        return [
            finding
            for writer in sorted(self.by_writer, key=lambda writer: writer or "")
            for finding in sorted(self.by_writer[writer], key=lambda each: each.sequence or 0)
        ]

    @property
    def first(self) -> list[Finding]:
        """One for each chain, and one for what is in none."""
        seen: dict[str | None, Finding] = {}
        for finding in self.in_order():
            seen.setdefault(finding.writer, finding)
        return list(seen.values())


@dataclass(frozen=True, slots=True)
class OpenChain:
    """A chain that has not been closed: `events` of it are not covered by a checkpoint yet, from
    `first` on."""

    writer: str
    first: int
    events: int


@dataclass(slots=True)
class Report:
    """`subject` is what was verified, where somebody else says what it is."""

    subject: str | None = None
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)  # what is no finding, and yet to be known
    not_covered: list[OpenChain] = field(default_factory=list)
    chains: int = 0
    events: int = 0
    checkpoints: int = 0  # that are right, in the chains and in the second place
    messages: int = 0
    register_rows: int = 0

    @property
    def clean(self) -> bool:
        return not self.findings.total
