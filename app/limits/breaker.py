"""Whether Redis is asked at all. No I/O, no clock.

A Redis that is slow costs every request its timeout; so after a few failures in a row nobody asks
it but the probes, and only several good probes in a row bring it back.
"""

FAILURES_TO_OPEN = 3
GOOD_PROBES_TO_CLOSE = 3


class Breaker:
    def __init__(self) -> None:
        self.closed = True
        self._in_a_row = 0  # failures while it is closed, good probes while it is open

    def succeeded(self) -> None:
        """A call, while it is closed."""
        if self.closed:
            self._in_a_row = 0

    def failed(self, *, at_once: bool = False) -> bool:
        """A call or a probe failed. Whether that has opened it: `at_once`, without waiting for
        more."""
        if not self.closed:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < FAILURES_TO_OPEN and not at_once:
            return False
        self.closed = False
        self._in_a_row = 0
        return True

    def probed(self) -> bool:
        """A good probe. Whether that has closed it."""
        if self.closed:
            return False
        self._in_a_row += 1
        if self._in_a_row < GOOD_PROBES_TO_CLOSE:
            return False
        self.closed = True
        self._in_a_row = 0
        return True
