"""Every series of `/metrics`, once: names, help, labels and buckets.

Names have the prefix `gateway_` and base units. Labels are bounded: no key, tenant, user or text of
a request is ever one. `several` on a gauge says how the values of several processes become one.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.telemetry.histogram import BatchHistogram

PREFIX = "gateway"

TOKEN_KINDS = ("prompt", "completion", "reasoning", "cached")
KEEPALIVE_KINDS = ("comment", "delta")
RATE_LIMIT_SCOPES = ("requests", "tokens", "concurrency", "day", "month")
RECOUNT_OUTCOMES = ("done", "late", "failed", "dropped")
AUTHENTICATION_FAILURES = ("missing", "malformed", "unknown", "throttled")
RESCUE_KINDS = ("salvage", "retry")
RESCUE_OUTCOMES = ("answered", "empty", "failed")
SEAL_EVENTS = ("sealed", "restored", "malformed", "unknown_key", "foreign", "expired")
ADJUSTED_FIELDS = ("temperature", "max_tokens")
SURFACES = ("prompt", "answer", "reasoning", "arguments")  # where a filter's rule may hit
DOMAIN_ACTIONS = ("annotate", "refuse", "count")
RELOAD_OUTCOMES = ("taken", "refused")
CHECK_OUTCOMES = ("ok", "failed", "undecided")
SPOOL_PLACE = "spool"
CHECKPOINT_PLACES = (SPOOL_PLACE, "file", "syslog", "s3")

# Clients wait as long as a full context takes: minutes to read it, up to an hour to answer.
DURATION_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 1800,
    3600,
)  # fmt: skip
FIRST_TOKEN_SECONDS = (
    0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60, 120, 180, 300, 600,
)  # fmt: skip
BETWEEN_TOKENS_SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5,
    10,
)  # fmt: skip
# With most rules one token; a rule that is long may take some twenty.
HOLD_BACK_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
# A quarter off is no matter; beyond a half the estimate is not worth its name.
ESTIMATE_RATIOS = (0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4)
# The body's arrival is part of it: tens of megabytes over a slow line.
OVERHEAD_SECONDS = (
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2.5, 5,
    10, 30, 60,
)  # fmt: skip


class Family:
    """Makes series in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = (), *, several: str) -> Gauge:
        return Gauge(
            name,
            text,
            labels,
            namespace=PREFIX,
            registry=self._registry,
            multiprocess_mode=several,  # type: ignore[arg-type]  # one of the library's literals
        )

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), *, buckets: Sequence[float]
    ) -> BatchHistogram:
        return BatchHistogram(
            name, text, labels, namespace=PREFIX, registry=self._registry, buckets=buckets
        )


class Series:
    def __init__(self, registry: CollectorRegistry) -> None:
        family = Family(registry)
        self.build_info = family.gauge(
            "build_info", "1, labelled with the version.", ["version"], several="livemax"
        )
        self._requests(family)
        self._models(family)
        self._workers(family)
        self._streams(family)
        self._thoughts(family)
        self._answers(family)
        self._policy(family)
        self._filters(family)
        self._limits(family)
        self._audit(family)

    def _requests(self, family: Family) -> None:
        self.requests = family.counter(
            "requests",
            "Requests that ended, by status and by the code of the error (empty: none).",
            ["route", "model", "status", "code", "stream"],
        )
        self.duration = family.histogram(
            "request_duration_seconds",
            "From the reception of a request to the end of its answer.",
            ["route", "model", "stream"],
            buckets=DURATION_SECONDS,
        )
        self.overhead = family.histogram(
            "overhead_seconds",
            "From the reception of a request, its body included, to its waiting for a worker.",
            buckets=OVERHEAD_SECONDS,
        )
        self.in_flight = family.gauge(
            "in_flight_requests", "Requests that have not ended yet.", several="livesum"
        )
        self.rate_limited = family.counter(
            "rate_limited", "Requests refused with 429, by the limit that refused.", ["scope"]
        )
        self.authentication_failures = family.counter(
            "authentication_failures",
            "Requests of nobody we know, by what was presented; throttled: not looked at, after "
            "too many from one network.",
            ["reason"],
        )
        self.client_cancelled = family.counter(
            "client_cancelled", "Requests whose client left before the end."
        )

    def _models(self, family: Family) -> None:
        self.first_token = family.histogram(
            "time_to_first_token_seconds",
            "From the reception of a request to the first token that its client may see.",
            ["model"],
            buckets=FIRST_TOKEN_SECONDS,
        )
        self.between_tokens = family.histogram(
            "inter_token_latency_seconds",
            "Between two deliveries of tokens to a client.",
            ["model"],
            buckets=BETWEEN_TOKENS_SECONDS,
        )
        self.tokens = family.counter(
            "tokens",
            "Tokens by kind; completion contains reasoning, prompt contains cached.",
            ["model", "kind"],
        )
        self.estimate_ratio = family.histogram(
            "prompt_estimate_ratio",
            "Estimated over reported prompt tokens, of prompts that are not too short to tell.",
            buckets=ESTIMATE_RATIOS,
        )

    def _workers(self, family: Family) -> None:
        self.upstream_requests = family.counter(
            "upstream_requests",
            'Requests to workers, by "ok" or the reason of the failure.',
            ["worker", "outcome"],
        )
        self.upstream_retries = family.counter(
            "upstream_retries", "Requests given to another worker, by reason.", ["reason"]
        )
        # The process that sees a worker as down sends it nothing: the pessimist decides.
        self.worker_up = family.gauge(
            "worker_up", "1 while a worker takes requests, else 0.", ["worker"], several="livemin"
        )
        self.worker_checks = family.counter(
            "worker_check",
            "Checks whether a worker splits the thought off as it should, by outcome.",
            ["worker", "outcome"],
        )

    def _streams(self, family: Family) -> None:
        self.stream_errors = family.counter(
            "stream_errors", "Streams that ended with an error event, by its code.", ["code"]
        )
        self.keepalives = family.counter(
            "keepalives", "Signs of life sent into silent streams, by kind.", ["kind"]
        )

    def _thoughts(self, family: Family) -> None:
        self.think_leaks_prevented = family.counter(
            "think_leak_prevented",
            "Times that hidden text was kept from a client which the worker's own split would have "
            "shown, by where it stood. Objective: all of them, so that "
            "gateway_hidden_text_shown_total stays 0.",
            ["where"],
        )
        self.hidden_text_shown = family.counter(
            "hidden_text_shown",
            "Times that text may have been shown which should be hidden. Objective: 0.",
        )
        self.parser_disagreements = family.counter(
            "parser_disagreement",
            "Answers that we split otherwise than the worker's own parser.",
            ["engine"],
        )
        self.sealed_reasoning = family.counter(
            "sealed_reasoning",
            "Thoughts sealed and restored, and seals that did not open, by reason.",
            ["event"],
        )

    def _answers(self, family: Family) -> None:
        self.answers_stopped = family.counter(
            "answers_stopped", "Answers that we ended before the worker did, by reason.", ["reason"]
        )
        self.answers_rescued = family.counter(
            "answers_rescued",
            "Further tries for answers that came back empty, by kind and by what they brought.",
            ["kind", "outcome"],
        )
        self.tool_calls_refused = family.counter(
            "tool_calls_refused",
            "Tool calls of the model that were kept from the client, by reason.",
            ["reason"],
        )

    def _policy(self, family: Family) -> None:
        self.tools_refused = family.counter(
            "tools_refused", "Requests refused with 403 for a tool that their key may not use."
        )
        self.requests_adjusted = family.counter(
            "requests_adjusted", "Requests changed to what may be asked, by field.", ["field"]
        )

    def _filters(self, family: Family) -> None:
        self.filter_hits = family.counter(
            "filter_hits",
            "What the rules found, by rule, by what was done about it, and by where it stood.",
            ["rule", "action", "surface"],
        )
        self.hold_back = family.histogram(
            "filter_hold_back_seconds",
            "Time that text of an answer waited because it might become a match.",
            buckets=HOLD_BACK_SECONDS,
        )
        self.domains = family.counter(
            "prompt_domains",
            "Prompts of a high-risk domain, by domain and by what was done about it.",
            ["domain", "action"],
        )
        self.rules_reloads = family.counter(
            "rules_reloads",
            "Changed files of rules, by whether they were taken. A refused one changes nothing.",
            ["outcome"],
        )

    def _limits(self, family: Family) -> None:
        self.limits_degraded = family.gauge(
            "limits_degraded",
            "1 while Redis cannot be asked and this replica enforces its share of the limits.",
            several="livemax",
        )
        self.limits_unanswered = family.counter(
            "limits_unanswered",
            "Calls to Redis that met an error or no answer in time; those of one write are one.",
        )
        self.replicas = family.gauge(
            "replicas", "Replicas that share the limits, as Redis last said.", several="livemax"
        )
        self.budget_recounts = family.counter(
            "budget_recounts", "Token budgets counted again from the audit log.", ["outcome"]
        )

    def _audit(self, family: Family) -> None:
        self.audit_records = family.counter(
            "audit_records",
            "Audit records that were written; each request has an intent and an outcome.",
        )
        self.audit_refused = family.counter(
            "audit_records_refused", "Audit records that the spool could not take."
        )
        self.audit_backlog = family.gauge(
            "audit_backlog_records",
            "Audit records in the spool that wait to be shipped to the database.",
            several="livesum",
        )
        self.audit_backlog_bytes = family.gauge(
            "audit_backlog_bytes",
            "Bytes of audit records in the spool that wait to be shipped to the database.",
            several="livesum",
        )
        self.audit_oldest = family.gauge(
            "audit_oldest_unshipped_seconds",
            "For how long the oldest audit record has waited to be shipped to the database.",
            several="livemax",
        )
        self.audit_spool_free_bytes = family.gauge(
            "audit_spool_free_bytes",
            "Room that is left on the disk of the spool.",
            several="livemin",
        )
        self.audit_open_metadata = family.counter(
            "audit_open_metadata",
            "Requests served although they could not be recorded, as their tenants may be. Should "
            "be 0.",
        )
        self.audit_redaction_failed = family.counter(
            "audit_redaction_failed",
            "Texts that were not stored because they could not be searched for what to mask. "
            "Should be 0.",
        )
        self.audit_checkpoints = family.counter(
            "audit_checkpoints",
            "Signed checkpoints of the audit log, by the place that has them: the log's own spool, "
            "or a second place.",
            ["place"],
        )
        self.audit_checkpoint_failures = family.counter(
            "audit_checkpoint_failures",
            "Tries to give a checkpoint to a place, that failed.",
            ["place"],
        )
        self.audit_checkpoint_age = family.gauge(
            "audit_checkpoint_age_seconds",
            "Since the second place last had every checkpoint.",
            several="livemax",
        )
        self.audit_set_aside = family.counter(
            "audit_records_set_aside",
            "Audit records that the database refused, kept in a file. Should be 0.",
        )
        self.audit_chain_breaks = family.counter(
            "audit_chain_breaks",
            "Places in a spool where an event does not follow the one before it. Should be 0.",
        )
