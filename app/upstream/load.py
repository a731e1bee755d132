"""What one worker has been given, and whether it has room for more. No I/O and no clock.

Counted in tokens: a prompt of a million and one of ten are both one request. All that we gave it is
known here; what other replicas gave it only from the worker's own report, and only while that is
fresh: a report that is too old says nothing, and least of all that the worker is idle.
"""

from dataclasses import dataclass
from typing import NamedTuple

from app.settings.pool import PoolSettings
from app.upstream.reading import work_of

# A stream that is being answered, beside prompts that are being read: as much work as so many
# tokens of a prompt. Only for comparing workers.
STREAM_TOKENS = 1_000
# Of a shorter prompt the first token's time says more about the network than about reading.
MIN_OBSERVED_TOKENS = 2_048
# Of each prefill in what is believed of a worker's speed: ten make nine tenths of it.
SPEED_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class LoadRules:
    """What one worker may be given; None: as many requests as its tokens allow."""

    prefill_tokens: int
    long_prefill_tokens: int  # a cold prompt above this is a long one
    long_prefills: int
    report_seconds: float  # a report older than this says nothing
    max_streams: int | None = None

    @classmethod
    def of(cls, settings: PoolSettings, max_streams: int | None) -> "LoadRules":
        return cls(
            settings.worker_prefill_tokens,
            settings.long_prefill_tokens,
            settings.long_prefills_per_worker,
            settings.worker_report_seconds,
            max_streams,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself, so of all replicas' requests together; None: it does not say.
    `at` is in monotonic seconds, `kv_usage` the share of its KV cache that requests hold."""

    at: float
    capacity_tokens: int | None = None
    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None


class Demand(NamedTuple):
    """What a request takes of a worker: of its prompt, what has to be read there, and what the
    worker holds for it once that is read and while it answers. `cached_tokens` of the prompt stand
    before what has to be read."""

    cold_tokens: int
    held_tokens: int
    cached_tokens: int = 0

    @property
    def work(self) -> int:
        return work_of(self.cold_tokens, self.cached_tokens)


@dataclass(slots=True, eq=False)
class Reservation:
    """Of one request, on a worker of one generation. `reading`: it has no first token yet."""

    generation: int
    demand: Demand
    long: bool
    work: int
    ahead_work: float  # that was left of prompts that were being read when it came
    at: float
    done_before: int
    reading: bool = True
    held: bool = True


class WorkerLoad:
    def __init__(self, rules: LoadRules) -> None:
        self.rules = rules
        self.generation = 0  # raised whenever the worker has lost what it had
        self.streams = 0
        self.prefill_tokens = 0
        self.held_tokens = 0
        self.long_prefills = 0
        self.capacity_tokens: int | None = None
        self._long_tokens = 0  # of `prefill_tokens`, those of long prompts
        self._reading = 0  # prompts of ours
        self._work = 0  # of reading them
        self._work_done = 0  # since the start: for the speed
        self._began_at = 0.0  # the last of them that began, or the first that came
        self._seconds_per_work: float | None = None
        self._reported_at: float | None = None
        # Of other replicas, when it was last reported.
        self.others_held = 0
        self.others_streams = 0

    # -- what we give it

    def reserve(self, demand: Demand, now: float) -> Reservation:
        """Whether there is room, `has_room` has said before."""
        cold = demand.cold_tokens
        long = cold > self.rules.long_prefill_tokens
        work = demand.work
        reservation = Reservation(
            self.generation, demand, long, work, self.work_left(now), now, self._work_done
        )
        if not self._reading:
            self._began_at = now
        self._reading += 1
        self._work += work
        self.streams += 1
        self.prefill_tokens += cold
        self.held_tokens += demand.held_tokens
        if long:
            self.long_prefills += 1
            self._long_tokens += cold
        return reservation

    def began(self, reservation: Reservation, now: float) -> None:
        """Its first token is there, so its prompt is read. Again, it changes nothing."""
        if not self._stop_reading(reservation):
            return
        self._began_at = now
        self._work_done += reservation.work
        seconds = now - reservation.at
        if reservation.demand.cold_tokens >= MIN_OBSERVED_TOKENS and seconds > 0:
            # With all that was read meanwhile: prompts that are read together share the speed.
            self._observe(seconds / (self._work_done - reservation.done_before))

    def free(self, reservation: Reservation) -> None:
        """Again, or of a generation that is gone, it changes nothing."""
        self._stop_reading(reservation)
        if reservation.held and reservation.generation == self.generation:
            self.streams -= 1
            self.held_tokens -= reservation.demand.held_tokens
        reservation.held = False

    def _stop_reading(self, reservation: Reservation) -> bool:
        """Whether it was reading until now, in this generation."""
        was = reservation.reading and reservation.generation == self.generation
        reservation.reading = False
        if was:
            self._reading -= 1
            self._work -= reservation.work
            cold = reservation.demand.cold_tokens
            self.prefill_tokens -= cold
            if reservation.long:
                self.long_prefills -= 1
                self._long_tokens -= cold
        return was

    def renew(self) -> None:
        """The worker was restarted, or away: nothing that it had been given is there any more, and
        nothing that it said of itself holds."""
        self.generation += 1
        self.streams = self.prefill_tokens = self.held_tokens = self.long_prefills = 0
        self._long_tokens = self._reading = self._work = 0
        self.capacity_tokens = None
        self._reported_at = self._seconds_per_work = None
        self.others_held = self.others_streams = 0

    # -- what it says of itself

    def report(self, report: Report) -> None:
        """What it has beyond what we gave it is other replicas'. Ours count in full from the start,
        theirs only as they are by now, so that this is the least that they have."""
        self._reported_at = report.at
        if report.capacity_tokens is not None:
            self.capacity_tokens = report.capacity_tokens
        used = int((report.kv_usage or 0.0) * (self.capacity_tokens or 0))
        self.others_held = max(0, used - self.held_tokens)
        streams = (report.running or 0) + (report.waiting or 0)
        self.others_streams = max(0, streams - self.streams)

    def is_known(self, now: float) -> bool:
        """Whether it has lately said how much it has."""
        at = self._reported_at
        return at is not None and now - at <= self.rules.report_seconds

    # -- whether there is room

    def has_room(self, demand: Demand, now: float) -> bool:
        """Whether it may be given this."""
        # Where nothing of ours is, one fits whatever its size: otherwise it would never run.
        if not self.streams:
            return True
        rules = self.rules
        cold = demand.cold_tokens
        if self.prefill_tokens and self.prefill_tokens + cold > rules.prefill_tokens:
            return False
        if cold > rules.long_prefill_tokens and self.long_prefills >= rules.long_prefills:
            return False
        return self._holds(demand.held_tokens, 1, now)

    def leaves_room(self, demand: Demand, claim: Demand, now: float) -> bool:
        """Whether, with this, there is room for `claim` as soon as there would be without. Long
        prompts that are being read are what it waits for in any case."""
        rules = self.rules
        cold = demand.cold_tokens
        if cold > rules.long_prefill_tokens:
            return False
        reading = self.prefill_tokens - self._long_tokens
        if reading + cold + claim.cold_tokens > rules.prefill_tokens:
            return False
        return self._holds(demand.held_tokens + claim.held_tokens, 2, now)

    def _holds(self, more_tokens: int, more_streams: int, now: float) -> bool:
        others_held, others_streams = self._others(now)
        most = self.rules.max_streams
        if most is not None and self.streams + others_streams + more_streams > most:
            return False
        capacity = self.capacity_tokens
        return capacity is None or self.held_tokens + others_held + more_tokens <= capacity

    def _others(self, now: float) -> tuple[int, int]:
        """As far as they take room away. With a worker whose metrics have broken what they once
        said would keep ours out for ever; that it does not look idle, `pressure` sees to."""
        return (self.others_held, self.others_streams) if self.is_known(now) else (0, 0)

    def pressure(self, now: float) -> int:
        """How busy it is, in tokens, or in work where it is late, for comparing workers. Of other
        replicas' requests what was last known counts on: a worker that has fallen silent does not
        look idle."""
        reading = self.prefill_tokens + self._unseen_tokens(now)
        return reading + STREAM_TOKENS * (self.streams + self.others_streams)

    def _unseen_tokens(self, now: float) -> int:
        """What it could have read, beyond all that it has of ours, since it last began anything of
        it: it reads what we know nothing of, a million tokens of another replica's or what was
        thought to be in its cache, and nobody can say that it will soon be done."""
        return max(0, int(self._work_since(now)) - self._work)

    def _work_since(self, now: float) -> float:
        """What it could have done since it last began anything of ours."""
        if not self._reading or self._seconds_per_work is None:
            return 0.0
        return (now - self._began_at) / self._seconds_per_work

    # -- how fast it reads

    @property
    def prefill_tokens_per_second(self) -> float | None:
        """At the beginning of a prompt, as it was seen to read, or None where it has read none that
        was long enough."""
        return None if self._seconds_per_work is None else 1 / self._seconds_per_work

    def seconds_for(self, tokens: int, cached_tokens: int = 0) -> float | None:
        """That it takes to read so many behind those in its cache; None where nobody knows."""
        return self.seconds_of(work_of(tokens, cached_tokens))

    def seconds_of(self, work: float) -> float | None:
        return None if self._seconds_per_work is None else work * self._seconds_per_work

    def work_left(self, now: float) -> float:
        """Of reading what we gave it."""
        return max(0.0, self._work - self._work_since(now))

    def _observe(self, seconds_per_work: float) -> None:
        # The time is averaged, not the speed: a cache hit that nobody expected weighs little.
        known = self._seconds_per_work
        if known is None:
            self._seconds_per_work = seconds_per_work
        else:
            self._seconds_per_work = known + SPEED_GAIN * (seconds_per_work - known)
