"""What has to be there where a part of the log is verified. Nothing here does I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from app.audit.log_reader import Part, microseconds_of
from app.audit.verify.evidence import RegisterRow, Statement

# What a checkpoint states was on disk by then. What follows it may already have been on its way
# there, with its time, for as long as the disk took.
MAX_COMMIT = timedelta(minutes=5)


class Limits:
    """The whole log is a part without bounds: every statement binds, and all begins within it."""

    def __init__(self, part: Part, registered: Mapping[str, RegisterRow]) -> None:
        self._part = part
        self._registered = registered
        self._floors: dict[str, int] = {}

    def marked(self, writer: str, statements: Iterator[Statement]) -> Iterator[Statement]:
        """By their sequences: which of them are about events that the part has, or a part before
        it."""
        since, until = self._part.since, self._part.until
        for statement in statements:
            at = statement.at
            if since is not None and at is not None and at >= since + MAX_COMMIT:
                self._floors.setdefault(writer, statement.head.sequence)
            binding = until is None or (at is not None and at < until)
            yield statement if binding else replace(statement, binding=False)

    def floor(self, writer: str) -> int | None:
        """All events behind that one are not older than the part; None where that is not known.
        Only after the statements were marked."""
        return 0 if self.has_beginning_of(writer) else self._floors.get(writer)

    def has_beginning_of(self, writer: str) -> bool:
        """As far as the register knows it."""
        if self._part.since is None:
            return True
        row = self._registered.get(writer)
        at = None if row is None else row.registered_at
        return at is not None and at >= microseconds_of(self._part.since)

    def is_older(self, at: int) -> bool:
        """Than the part. `at` in microseconds since the epoch."""
        return self._part.since is not None and at < microseconds_of(self._part.since)
