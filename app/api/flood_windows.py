"""slowapi's counters, in this process and bounded.

The `MemoryStorage` that it brings has no bound: a flood from many addresses fills the memory for a
minute, while a thread walks through all of it, a hundred times a second.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from limits.storage import Storage

SCHEME = "bounded"

# ~250 bytes each. Above it the oldest windows make room; who has as many addresses as that is not
# held by what each of them may do.
MAX_WINDOWS = 10_000
# Looked at in each request, of which at most one begins a window: those that have ended are
# forgotten faster than others can come.
_EXAMINED_PER_REQUEST = 2


@dataclass(slots=True)
class _Window:
    ends_at: float
    count: int = 0


class FloodWindows(Storage):
    """For fixed windows of one length. `clock` gives monotonic seconds, and so does `get_expiry`.
    Not for use from several threads."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - declared by the library, which registers it

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_windows: int = MAX_WINDOWS,
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._clock = clock
        self._max_windows = max_windows
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # the first to end is in front

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()  # there is nothing to fail

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = self._clock()
        self._forget_ended(now)
        window = self._windows.get(key)
        if window is None or window.ends_at <= now:
            self.clear(key)
            if len(self._windows) >= self._max_windows:
                self._windows.popitem(last=False)
            window = self._windows[key] = _Window(now + expiry)
        window.count += amount
        return window.count

    def get(self, key: str) -> int:
        window = self._windows.get(key)
        return 0 if window is None or window.ends_at <= self._clock() else window.count

    def get_expiry(self, key: str) -> float:
        window = self._windows.get(key)
        return self._clock() if window is None else window.ends_at

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        forgotten = len(self._windows)
        self._windows.clear()
        return forgotten

    def _forget_ended(self, now: float) -> None:
        for _ in range(_EXAMINED_PER_REQUEST):
            first = next(iter(self._windows), None)
            if first is None or self._windows[first].ends_at > now:
                return
            del self._windows[first]
