"""How many lines there may be: requests that went well are sampled, floods of one kind are counted.

Both say in the lines that they leave how many there were, so that counts can be recovered.
"""

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from structlog.typing import EventDict, WrappedLogger

# The first requests after a start are how an operator sees that it works.
FIRST_REQUESTS = 100
# A pool of ten workers that fail once a second each stays whole; a flood of strangers at the edge,
# or of requests that one broken worker gets, does not fill the disk.
LINES_OF_A_KIND = 20
WINDOW_SECONDS = 10.0
MAX_KINDS = 1_000  # kinds are events and workers; of more at once, each is written

# Each of these lines is a record that somebody may ask for; there is no other of it.
NEVER_DROPPED = frozenset({"audit_open_metadata", "audit_read", "audit_record_set_aside"})

REQUEST = "request"
_CRC_VALUES = 2**32


class RequestSampling:
    """A processor: of the lines of requests that went well, keeps the share `ratio`.

    Always kept are those of errors, those that were slow (no first token within `slow_seconds`, or
    no end where there was no token), and the first of the process. What is kept by its ratio says
    so in `sample_ratio`: it stands for 1 / sample_ratio requests. Which those are, the request's
    id decides: every replica, and whoever else samples by it, keeps the same.
    """

    def __init__(self, ratio: float, slow_seconds: float) -> None:
        self._ratio = ratio
        self._slow_ms = slow_seconds * 1000
        self._first = FIRST_REQUESTS

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if event.get("event") != REQUEST or self._ratio >= 1 or self._always(event):
            return event
        if self._first > 0:
            self._first -= 1
            return event
        if zlib.crc32(str(event.get("request_id")).encode()) >= self._ratio * _CRC_VALUES:
            raise structlog.DropEvent
        event["sample_ratio"] = self._ratio
        return event

    def _always(self, event: EventDict) -> bool:
        waited_ms = event.get("ttft_ms", event.get("duration_ms", 0.0))
        return bool(
            event.get("status", 500) >= 400
            or event.get("outcome") != "completed"
            or waited_ms >= self._slow_ms
        )


@dataclass(slots=True)
class _Window:
    """Of one kind of line: from when on it is counted, how many there were, and one of those that
    were not written."""

    ends_at: float
    lines: int = 0
    dropped: int = 0
    level: str = "warning"


class FloodBound:
    """A processor: of one kind of line at most LINES_OF_A_KIND in WINDOW_SECONDS.

    Lines are of one kind if they tell the same event of the same worker; of a library, if it is
    the same library. How many more there were is told by a line `lines_dropped`, which `tell`
    writes, as soon as the window is over and anything is logged. For any thread.
    """

    def __init__(
        self, tell: Callable[[EventDict], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._clock = clock
        # Disks, spans and checkpoints have threads that log. Two of them that end one window would
        # make a log call raise, and with it the request that made it.
        self._lock = threading.Lock()
        self._windows: dict[tuple[object, object], _Window] = {}
        self._next_end = float("inf")

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        now = self._clock()
        with self._lock:
            ended = list(self._ended(now)) if now >= self._next_end else ()
            written = self._is_written(event, now)
        for summary in ended:
            self._tell(summary)
        if not written:
            raise structlog.DropEvent
        return event

    def _is_written(self, event: EventDict, now: float) -> bool:
        name = event.get("event")
        if name == REQUEST or name in NEVER_DROPPED:
            return True
        library = event.get("logger")
        kind = (name, event.get("worker")) if library is None else ("logger", library)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                return True
            window = self._windows[kind] = _Window(now + WINDOW_SECONDS)
            self._next_end = min(self._next_end, window.ends_at)
        window.lines += 1
        if window.lines <= LINES_OF_A_KIND:
            return True
        window.dropped += 1
        window.level = event.get("level", window.level)
        return False

    def _ended(self, now: float) -> Iterator[EventDict]:
        over = [kind for kind, window in self._windows.items() if now >= window.ends_at]
        for kind in over:
            window = self._windows.pop(kind)
            if window.dropped:
                yield _summary(kind, window)
        ends = (window.ends_at for window in self._windows.values())
        self._next_end = min(ends, default=float("inf"))


def _summary(kind: tuple[object, object], window: _Window) -> EventDict:
    name, of = kind
    summary: EventDict = {"level": window.level, "event": "lines_dropped"}
    if name == "logger":
        summary["logger"] = of
    else:
        summary["of"] = name
        if of is not None:
            summary["worker"] = of
    summary.update(lines=window.dropped, within_seconds=WINDOW_SECONDS)
    return summary
