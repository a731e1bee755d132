"""Whether this process itself was held up: then no worker is to blame for what came too late.

No I/O and no clock: whoever has a loop calls `tick` every TICK_SECONDS.
"""

TICK_SECONDS = 0.25
# A collection of garbage, or a thread that keeps the interpreter, takes a fraction of this.
STALL_SECONDS = 1.0
# What piled up meanwhile is read in the loop's next rounds; until then nobody is judged.
RECOVERY_SECONDS = 2.0


class OwnStall:
    def __init__(self) -> None:
        self._ticked_at: float | None = None
        self._recovered_at = float("-inf")

    def tick(self, now: float) -> None:
        if self._late(now):
            self._recovered_at = now + RECOVERY_SECONDS
        self._ticked_at = now

    def lately(self, now: float) -> bool:
        """It may be that the tick itself is still to come."""
        return now < self._recovered_at or self._late(now)

    def _late(self, now: float) -> bool:
        ticked_at = self._ticked_at
        return ticked_at is not None and now - ticked_at > TICK_SECONDS + STALL_SECONDS
