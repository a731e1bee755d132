"""What the worker pool does, counted: queue, placement, and what is with each worker.

Resolved series are kept here, as finding a labelled one costs more than counting in it.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from app.protocol.events import Usage
from app.telemetry.histogram import BatchHistogram
from app.telemetry.series import FIRST_TOKEN_SECONDS, TOKEN_KINDS, Family
from app.telemetry.worker_series import WorkerSeries

PRIORITIES = ("interactive", "batch")
# Why a request went to its worker: it knows the prompt's beginning; the conversation's hash chose
# it; the one that was chosen had more to do; none of those that are meant for it had room.
PLACEMENT_REASONS = ("affinity", "rendezvous", "load", "overflow")

# Of what some worker was known to have of a prompt: its worker found at least four fifths, some of
# it, or nothing; or nobody was known to have any.
AFFINITY_RESULTS = ("hit", "partial", "miss", "none")

# Whoever can say that a worker is there; and what becomes of it. `leaving`: it gets nothing new and
# is removed with its last request.
WORKER_SOURCES = ("settings", "file", "dns", "admin")
WORKER_CHANGES = ("added", "changed", "replaced", "drained", "resumed", "leaving", "removed")

# From a place that is freed at once to a cold prompt of a million tokens, and the longest wait.
QUEUE_WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 90, 120, 300)

# Kinds of workers, told apart by their tags: "short", "long" and a few more.
MAX_POOLS = 20
OTHER_POOL = "other"


class PoolMetrics:
    """Part of `Metrics`, as `metrics.pool`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        family = Family(registry)
        self.workers = WorkerSeries()
        self._queue(family)
        self._workers(family)
        self._answers(family)
        self._health(family)
        self._reports(family)
        self._affinity(family)
        self._membership(family)

    def _queue(self, family: Family) -> None:
        depth = family.gauge(
            "queued_requests", "Requests that wait for a worker.", ["priority"], several="livesum"
        )
        self._depth = {each: depth.labels(each) for each in PRIORITIES}
        wait = family.histogram(
            "queue_wait_seconds",
            "How long requests waited that had to wait for a worker and got one.",
            ["priority"],
            buckets=QUEUE_WAIT_SECONDS,
        )
        self._wait = {each: wait.labels(each) for each in PRIORITIES}
        placements = family.counter(
            "placements", "Requests given to a worker, by why it was that one.", ["reason"]
        )
        self._placements = {each: placements.labels(each) for each in PLACEMENT_REASONS}
        self._long_prefills = family.counter(
            "long_prefills", "Prefills begun that are long enough to be felt by all others there."
        )
        self._retries_withheld = family.counter(
            "retries_withheld", "Second tries that were not made, as too many were running."
        )

        self._attached = family.counter(
            "attached", "Requests that were given the answer of the same one, already running."
        )
        departures = family.counter(
            "departures",
            "Clients that left, or could wait no longer, before their answer was whole, by what "
            "became of the work: went_on, given_up.",
            ["work"],
        )
        self._departures = {each: departures.labels(each) for each in ("went_on", "given_up")}

    def _workers(self, family: Family) -> None:
        self._in_flight = self.workers.of(
            family.gauge(
                "worker_in_flight",
                "Requests that a worker is serving for us.",
                ["worker"],
                several="livesum",
            ),
            gone=0.0,
        )
        self._prefill_tokens = self.workers.of(
            family.gauge(
                "worker_prefill_tokens",
                "Tokens of prompts that a worker has been given and not finished reading.",
                ["worker"],
                several="livesum",
            ),
            gone=0.0,
        )

    def _answers(self, family: Family) -> None:
        self._first_token = family.histogram(
            "upstream_first_token_seconds",
            "From a worker's being asked to its first token, by the tags of the worker.",
            ["pool"],
            buckets=FIRST_TOKEN_SECONDS,
        )
        self._tokens = family.counter(
            "upstream_tokens",
            "Tokens by kind, as `tokens`, by the tags of the worker.",
            ["pool", "kind"],
        )
        self._pools: dict[str, _OfPool] = {}

    def _affinity(self, family: Family) -> None:
        lookups = family.counter(
            "affinity_lookups",
            "Prompts whose worker told what it had cached, by what was known to be cached.",
            ["result"],
        )
        self._lookups = {each: lookups.labels(each) for each in AFFINITY_RESULTS}
        self._prefill_saved = family.counter(
            "prefill_seconds_saved",
            "Prefill that prefix caches saved, at the speed at which the worker was seen to read.",
        )

    def _health(self, family: Family) -> None:
        self._ejected = self.workers.of(
            family.gauge(
                "worker_ejected",
                "1 while a worker that failed is left alone or on trial, else 0.",
                ["worker"],
                several="livemax",
            )
        )
        self._ejections = self.workers.of(
            family.counter(
                "worker_ejections", "Times that a worker was ejected, by why.", ["worker", "reason"]
            )
        )
        self._timeouts = self.workers.of(
            family.counter(
                "worker_timeouts",
                "Requests on which a worker was given up, by the time that was over: first_byte, "
                "between_tokens, total, standstill.",
                ["worker", "timeout"],
            )
        )
        self._aborts = self.workers.of(
            family.counter(
                "worker_aborts",
                "Requests that an engine was told to stop, by outcome: ok, failed, dropped.",
                ["worker", "outcome"],
            )
        )
        self._probes = self.workers.of(
            family.counter(
                "worker_active_probes",
                "One-token completions by which a silent worker was tried, by outcome: ok, busy, "
                "failed.",
                ["worker", "outcome"],
            )
        )

    def _reports(self, family: Family) -> None:
        self._running = self.workers.of(
            family.gauge(
                "worker_reported_running",
                "Requests that a worker says it is working on, of all who ask it.",
                ["worker"],
                several="livemax",
            )
        )
        self._waiting = self.workers.of(
            family.gauge(
                "worker_reported_waiting",
                "Requests that a worker says wait in it.",
                ["worker"],
                several="livemax",
            )
        )
        self._kv_usage = self.workers.of(
            family.gauge(
                "worker_reported_kv_usage_ratio",
                "Of its KV cache, what a worker says is in use.",
                ["worker"],
                several="livemax",
            )
        )

    def _membership(self, family: Family) -> None:
        self._draining = self.workers.of(
            family.gauge(
                "worker_draining",
                "1 while a worker of the pool gets nothing new, as somebody said so, else 0.",
                ["worker"],
                several="livemax",
            )
        )
        changes = family.counter(
            "worker_changes",
            "Changes of who is in the pool, by who made them.",
            ["change", "source"],
        )
        self._changes = {
            (change, source): changes.labels(change, source)
            for change in WORKER_CHANGES
            for source in WORKER_SOURCES
        }
        reads = family.counter(
            "worker_lists_read",
            "Lists of workers that said something else than before, or could not be used.",
            ["source", "outcome"],
        )
        self._reads = {
            (source, outcome): reads.labels(source, outcome)
            for source in ("file", "dns")
            for outcome in ("taken", "refused")
        }

    # -- the queue

    def queue_depth(self, priority: str, requests: int) -> None:
        self._depth[priority].set(requests)

    def waited(self, priority: str, seconds: float) -> None:
        """Of a request that had to wait and was given to a worker."""
        self._wait[priority].observe(seconds)

    def placed(self, reason: str) -> None:
        """`reason`: one of PLACEMENT_REASONS."""
        self._placements[reason].inc()

    def long_prefill(self) -> None:
        self._long_prefills.inc()

    def retry_withheld(self) -> None:
        self._retries_withheld.inc()

    # -- answers; `pool` is that of the worker, an `Endpoint.pool`

    def first_token(self, pool: str, seconds: float) -> None:
        self._pool(pool).first_token.observe(seconds)

    def used(self, pool: str, usage: Usage) -> None:
        self._pool(pool).count(usage)

    def _pool(self, pool: str) -> "_OfPool":
        known = self._pools.get(pool)
        if known is None:
            label = pool if len(self._pools) < MAX_POOLS else OTHER_POOL
            known = self._pools.get(label)
        if known is None:
            known = self._pools[label] = _OfPool(
                self._first_token.labels(label),
                tuple(self._tokens.labels(label, kind) for kind in TOKEN_KINDS),
            )
        return known

    # -- prefix caches

    def affinity_looked_up(self, result: str) -> None:
        """`result`: one of AFFINITY_RESULTS."""
        self._lookups[result].inc()

    def prefill_saved(self, seconds: float) -> None:
        self._prefill_saved.inc(seconds)

    # -- workers

    def worker_load(self, worker: str, requests: int, prefill_tokens: int) -> None:
        self._in_flight.of(worker).set(requests)
        self._prefill_tokens.of(worker).set(prefill_tokens)

    def ejected(self, worker: str, *, ejected: bool) -> None:
        self._ejected.of(worker).set(1 if ejected else 0)

    def ejection(self, worker: str, reason: str) -> None:
        self._ejections.of(worker, reason).inc()

    def timed_out(self, worker: str, timeout: str) -> None:
        self._timeouts.of(worker, timeout).inc()

    def aborted(self, worker: str, outcome: str) -> None:
        self._aborts.of(worker, outcome).inc()

    def actively_probed(self, worker: str, outcome: str) -> None:
        self._probes.of(worker, outcome).inc()

    def reported(
        self, worker: str, running: int | None, waiting: int | None, kv_usage: float | None
    ) -> None:
        """What a worker says of itself; None: it does not say."""
        if running is not None:
            self._running.of(worker).set(running)
        if waiting is not None:
            self._waiting.of(worker).set(waiting)
        if kv_usage is not None:
            self._kv_usage.of(worker).set(kv_usage)

    def attached(self) -> None:
        self._attached.inc()

    def client_left(self, *, went_on: bool) -> None:
        self._departures["went_on" if went_on else "given_up"].inc()

    def worker_changed(self, change: str, source: str) -> None:
        """`change`: one of WORKER_CHANGES; `source`: one of WORKER_SOURCES."""
        self._changes[change, source].inc()

    def worker_draining(self, worker: str, *, draining: bool) -> None:
        self._draining.of(worker).set(1 if draining else 0)

    def workers_read(self, source: str, outcome: str) -> None:
        """`source`: file or dns; `outcome`: taken (something has changed) or refused."""
        self._reads[source, outcome].inc()

    def forget_worker(self, worker: str) -> None:
        """It is no longer in the pool: its series go, also those that are not of this class."""
        self.workers.forget(worker)


@dataclass(frozen=True, slots=True)
class _OfPool:
    first_token: BatchHistogram
    tokens: tuple[Counter, ...]  # in the order of TOKEN_KINDS

    def count(self, usage: Usage) -> None:
        counts = (
            usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens,
            usage.cached_tokens,
        )  # fmt: skip
        for counter, tokens in zip(self.tokens, counts, strict=True):
            if tokens:
                counter.inc(tokens)
