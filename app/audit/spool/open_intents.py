"""The intents that have no outcome, as the frames of a spool say in their order."""

from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import request_id_of


class OpenIntents:
    """Fed with the records of all segments, in order.

    A record that was written again after a failed sync comes twice, the second time in a later
    segment, and may stand there behind its own outcome of the segment before. So what has ended is
    remembered until the end of the segment after, and no longer: a backlog may have millions.
    """

    def __init__(self) -> None:
        self._open: dict[str, None] = {}
        self._ended: set[str] = set()  # in this segment
        self._ended_before: set[str] = set()  # in the one before it that had records
        self._segment: int | None = None

    @property
    def request_ids(self) -> list[str]:
        """Oldest first."""
        return list(self._open)

    def feed(self, segment: int, kind: int, payload: bytes) -> None:
        """Raises PayloadUnreadable for a record whose request cannot be told."""
        if segment != self._segment:
            self._ended_before, self._ended = self._ended, set()
            self._segment = segment
        if kind == FrameKind.INTENT:
            request_id = request_id_of(payload)
            if request_id not in self._ended and request_id not in self._ended_before:
                self._open[request_id] = None
        elif kind == FrameKind.OUTCOME:
            request_id = request_id_of(payload)
            self._open.pop(request_id, None)
            self._ended.add(request_id)
