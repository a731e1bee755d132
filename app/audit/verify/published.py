"""Checkpoints of the second place, read back from the file that has them.

Lines of syslog are taken as well, whatever stands before the checkpoint. What is kept in memory is
16 bytes for each: a year of four processes makes 12 million, and 200 MB.
"""

from array import array
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import BinaryIO

from app.audit.checkpoints.checkpoint import Checkpoint, CheckpointUnreadable, parse_checkpoint
from app.audit.log_reader import Part
from app.audit.verify.chain import fault_of
from app.audit.verify.evidence import Statement
from app.audit.verify.findings import Finding, Problem, Report

_BEGINNING = b'{"at":'  # its names are sorted
MAX_LINE_BYTES = 16 * 1024  # above what a syslog daemon lets a line have
MAX_UNREADABLE_SHOWN = 3

Progress = Callable[[int], None]  # bytes that were read


class PublishedCheckpoints:
    """Of all writers that one file knows. What is no checkpoint in it is noted in the report."""

    def __init__(
        self, file: BinaryIO | None, keys: Collection[str], report: Report, name: str = ""
    ) -> None:
        """Reads `file` from its beginning, and again while the statements are taken. Without one
        there are none."""
        self._file = file
        self._keys = keys
        self._report = report
        self._name = name
        self._sequences: dict[str, array[int]] = {}
        self._offsets: dict[str, array[int]] = {}
        self._made: dict[str, tuple[datetime, datetime]] = {}  # the earliest and the latest
        # What they say of the register: the hash of a row by its number.
        self.register: dict[int, bytes] = {}
        if file is not None:
            self._index(file)

    @property
    def name(self) -> str | None:
        """Of the file; None where there is none."""
        return None if self._file is None else self._name

    def last(self, writer: str) -> int:
        """The highest number of an event that a checkpoint states; 0 where none does."""
        return max(self._sequences.get(writer, (0,)))

    def may_be_within(self, writer: str, part: Part) -> bool:
        """Whether any may have been made within it. What they say of their time is not verified
        yet."""
        made = self._made.get(writer)
        if made is None:
            return False
        earliest, latest = made
        return (part.since is None or latest >= part.since) and (
            part.until is None or earliest < part.until
        )

    @property
    def writers(self) -> list[str]:
        return list(self._sequences)

    def statements(self, writer: str) -> Iterator[Statement]:
        """By their sequences. One that none of our keys has signed is a finding, and left out."""
        sequences, offsets = self._sequences.get(writer), self._offsets.get(writer)
        if sequences is None or offsets is None or self._file is None:
            return
        for place in sorted(range(len(sequences)), key=sequences.__getitem__):
            checkpoint = self._read(self._file, offsets[place])
            if checkpoint is None or checkpoint.writer != writer:
                continue  # the file was changed while we read
            fault = fault_of(checkpoint, self._keys)
            if fault is not None:
                self._add(Problem.FORGED, fault, checkpoint)
                continue
            self._report.checkpoints += 1
            if checkpoint.register is not None:
                self.register[checkpoint.register[0]] = checkpoint.register[1]
            yield Statement(
                checkpoint.head,
                f"the checkpoint of {checkpoint.at:%Y-%m-%d %H:%M:%S}Z in {self._name}",
                signed=True,
                at=checkpoint.at,
                closed=checkpoint.closed,
            )

    def _index(self, file: BinaryIO) -> None:
        file.seek(0)
        unreadable: list[int] = []
        number = offset = 0
        while line := file.readline(MAX_LINE_BYTES):
            number += 1
            checkpoint = parsed_line(line)
            if checkpoint is not None:
                self._sequences.setdefault(checkpoint.writer, array("q")).append(
                    checkpoint.sequence
                )
                self._offsets.setdefault(checkpoint.writer, array("q")).append(offset)
                at = checkpoint.at
                earliest, latest = self._made.get(checkpoint.writer, (at, at))
                self._made[checkpoint.writer] = min(earliest, at), max(latest, at)
            elif line.strip():
                unreadable.append(number)
            offset += len(line)
        if unreadable:
            shown = ", ".join(map(str, unreadable[:MAX_UNREADABLE_SHOWN]))
            more = ", ..." if len(unreadable) > MAX_UNREADABLE_SHOWN else ""
            self._report.notes.append(
                f"{self._name} has lines that are no checkpoints (numbers {shown}{more}): foreign, "
                "torn by a crash, or changed"
            )

    def _read(self, file: BinaryIO, offset: int) -> Checkpoint | None:
        file.seek(offset)
        return parsed_line(file.readline(MAX_LINE_BYTES))

    def _add(self, problem: Problem, what: str, checkpoint: Checkpoint) -> None:
        text = f"{self._name} has {what}"
        self._report.findings.add(Finding(problem, text, checkpoint.writer, checkpoint.sequence))


def parsed_line(line: bytes) -> Checkpoint | None:
    """None where there is none in it."""
    # The last one: a crash may have torn another off before it.
    start = line.rfind(_BEGINNING)
    if start < 0:
        return None
    try:
        return parse_checkpoint(line[start:].rstrip())
    except CheckpointUnreadable:
        return None
