"""Whether a worker stands still while it should be at work. No I/O and no clock.

A hung GPU leaves vLLM's `/health` at 200: only what it does tells. Its tokens do, where it answers.
While it reads a long prompt, which may take minutes, nothing is counted until all of it is read
(seen with vLLM 0.32), but the share of its KV cache that is in use grows with each step.
"""

# What it says of itself that changes with its work; None: it does not say.
Counts = tuple[float | None, ...]


class StandStill:
    """Of one worker; times in monotonic seconds."""

    __slots__ = ("_counts", "_moved_at")

    def __init__(self) -> None:
        self._moved_at = float("-inf")
        self._counts: Counts = ()

    @property
    def moved_at(self) -> float:
        """When it was last seen to do something."""
        return self._moved_at

    def moved(self, now: float) -> None:
        """A token came, or another sign that it works."""
        self._moved_at = now

    def counted(self, counts: Counts, now: float) -> None:
        """As the worker counts, for all who ask it. Always the same ones."""
        if counts == self._counts or all(count is None for count in counts):
            return
        if self._counts:  # the first page says nothing of when it moved
            self._moved_at = now
        self._counts = counts

    def still(self, seconds: float, now: float) -> bool:
        """Whether nothing moved for so long."""
        return now - self._moved_at >= seconds
