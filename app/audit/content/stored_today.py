"""Which messages are known to be stored on this UTC day.

Each day stores anew what its requests refer to, so that old days can be dropped: nothing is known
of the day before.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

SECONDS_PER_DAY = 86_400


class Marks(NamedTuple):
    """Messages that are stored on `day` (days since the epoch) once their frames are: the address
    that each would have as it was sent, and the one under which it is stored. They differ where
    rules mask something."""

    day: int
    addresses: tuple[tuple[bytes, bytes], ...]


class StoredToday:
    """For any thread. `clock` gives wall-clock seconds since the epoch.

    Of the last `entries` // 2 messages that were marked or asked for, none is forgotten within the
    day: two generations, the older of which goes when the younger is full. A message may be marked
    only after the append that stores it was acknowledged; and as it is marked only with or after
    all that stand before it, to know the last is to know them all.
    """

    def __init__(self, entries: int, clock: Callable[[], float]) -> None:
        self._generation_entries = max(1, entries // 2)
        self._clock = clock
        self._lock = threading.Lock()
        self._day = self.today()
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def today(self) -> int:
        return int(self._clock() // SECONDS_PER_DAY)

    def address_of(self, day: int, sent_as: bytes) -> bytes | None:
        """Under which a message is stored on this day; None where that is not known."""
        with self._lock:
            if not self._is_of(day):
                return None
            address = self._young.get(sent_as)
            if address is None and (address := self._old.get(sent_as)) is not None:
                self._add(sent_as, address)
            return address

    def mark(self, marks: Marks) -> None:
        """Without effect where their day is over."""
        with self._lock:
            if self._is_of(marks.day):
                for sent_as, address in marks.addresses:
                    self._add(sent_as, address)

    def _is_of(self, day: int) -> bool:
        """Begins a new day. One that is over never comes back, whatever the clock says."""
        if day > self._day:
            self._young, self._old = {}, {}
            self._day = day
        return day == self._day

    def _add(self, sent_as: bytes, address: bytes) -> None:
        self._young[sent_as] = address
        if len(self._young) >= self._generation_entries:
            self._young, self._old = {}, self._young
