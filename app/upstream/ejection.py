"""Workers that fail are left alone for a while, and longer each time. No I/O; the clock is given.

Never more than half of the pool, nor of those that can do the same, and never the last of them that
takes requests: long prompts have few workers, and where all fail they are better asked than not.
One for which no other can stand in is left alone up to the next round of probes. After its time a
worker gets one request or one probe; that decides.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from weakref import WeakKeyDictionary

from app.settings.pool import PoolSettings
from app.upstream.endpoint import Endpoint

# A worker that is lost so often within so long comes and goes; each time it takes requests along.
FLAPS = 3
FLAP_SECONDS = 60.0


class Fault(StrEnum):
    """What counts against a worker: never a 4xx, a 429 or a 503."""

    CONNECT = "connect"
    RESET = "reset"
    ERROR = "error"
    FIRST_BYTE = "first_byte"
    SILENCE = "silence"
    FLAPPING = "flapping"
    STANDSTILL = "standstill"
    PROBE = "probe"


@dataclass(slots=True)
class _Record:
    faults: int = 0  # in a row
    ejections: int = 0  # one less for each `ejection_max_seconds` that it has done well
    since: float = 0.0  # when it was last ejected, or let in again
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=FLAPS))


class Ejections:
    """`tell(endpoint, fault, seconds)` is called for each one."""

    def __init__(
        self,
        endpoints: Callable[[], Iterable[Endpoint]],
        settings: PoolSettings,
        clock: Callable[[], float],
        tell: Callable[[Endpoint, Fault, float], None],
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._records: WeakKeyDictionary[Endpoint, _Record] = WeakKeyDictionary()

    def failed(self, endpoint: Endpoint, fault: Fault) -> None:
        """One of several in a row; on trial the first one decides."""
        record = self._record(endpoint)
        record.faults += 1
        if record.faults >= self._settings.ejection_faults or self._on_trial(endpoint):
            self._eject(endpoint, record, fault)

    def condemned(self, endpoint: Endpoint, fault: Fault) -> None:
        """What leaves no doubt: it is ejected at once."""
        self._eject(endpoint, self._record(endpoint), fault)

    def relent(self) -> bool:
        """Those that are ejected, and for which no other can stand in, are tried at once. Whether
        there is one."""
        now = self._clock()
        endpoints = list(self._endpoints())
        early = [
            each
            for each in endpoints
            if each.ready
            and (each.ejected_until or now) > now
            and not any(_serves(other, now) for other in endpoints if other.can_replace(each))
        ]
        for endpoint in early:
            endpoint.ejected_until = now
        return bool(early)

    def lost(self, endpoint: Endpoint) -> None:
        """It took requests and was found missing."""
        record = self._record(endpoint)
        now = self._clock()
        record.losses.append(now)
        if len(record.losses) == FLAPS and now - record.losses[0] <= FLAP_SECONDS:
            record.losses.clear()
            self._eject(endpoint, record, Fault.FLAPPING)

    def answered(self, endpoint: Endpoint) -> bool:
        """It did what was asked. Whether it is let in again by that."""
        record = self._record(endpoint)
        record.faults = 0
        if not self._on_trial(endpoint):
            return False
        endpoint.ejected_until = None
        record.since = self._clock()
        return True

    def awaits_trial(self, endpoint: Endpoint) -> bool:
        """Whether its time is over, and nothing of ours is there that could tell."""
        return self._on_trial(endpoint) and not endpoint.on_trial

    def _on_trial(self, endpoint: Endpoint) -> bool:
        until = endpoint.ejected_until
        return until is not None and self._clock() >= until

    def _eject(self, endpoint: Endpoint, record: _Record, fault: Fault) -> None:
        now = self._clock()
        until = endpoint.ejected_until
        if until is not None and now < until:
            return  # what fails now was there before
        if not self._may_go(endpoint, now):
            return
        settings = self._settings
        if until is None:  # what it did well since then makes up for what it did before
            good = int((now - record.since) / settings.ejection_max_seconds)
            record.ejections = max(0, record.ejections - good)
        record.ejections += 1
        record.since = now
        record.faults = 0
        seconds = min(settings.ejection_seconds * record.ejections, settings.ejection_max_seconds)
        endpoint.ejected_until = now + seconds
        self._tell(endpoint, fault, seconds)

    def _may_go(self, endpoint: Endpoint, now: float) -> bool:
        """Its own place is not counted twice where it is ejected again."""
        others = [each for each in self._endpoints() if each is not endpoint]
        # One of its kind has the others' leave: `relent` tries it again after each round of probes.
        alike = [each for each in others if each.can_replace(endpoint)] or others
        return _spares(others) and _spares(alike) and any(_serves(each, now) for each in alike)

    def _record(self, endpoint: Endpoint) -> _Record:
        record = self._records.get(endpoint)
        if record is None:
            record = self._records[endpoint] = _Record(since=self._clock())
        return record


def _spares(others: Sequence[Endpoint]) -> bool:
    """Whether one more than these may be ejected: not more than half of them all."""
    return sum(each.ejected_until is not None for each in others) < (len(others) + 1) // 2


def _serves(endpoint: Endpoint, now: float) -> bool:
    return endpoint.ejected_until is None and endpoint.takes_requests(now)
