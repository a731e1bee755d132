"""For whoever is on call: is it up, what fails, who waits, what is full."""

from deploy.grafana.board import Board, Row
from deploy.grafana.boards.overview_workers import waiting, workers
from deploy.grafana.panels import GREEN, ORANGE, RED, Panel, Query, lines, stat
from deploy.grafana.promql import (
    increase,
    least,
    most,
    or_none,
    quantile,
    rate,
    series,
    total,
)

# As the service level counts it, deploy/prometheus/recording.yaml: not what a client did wrong or
# would not wait for, nor what the model made of a request.
OURS = 'status=~"2..|5.."'
FAILED = (
    'status=~"5..",code!~"gateway_timeout|empty_answer|invalid_tool_call|tool_call_refused|'
    'tool_call_missing"'
)
REQUESTS = "gateway_requests_total"
FAILED_SHARE = f"{or_none(rate(REQUESTS, where=FAILED))} / {rate(REQUESTS, where=OURS)}"

DOWN = f"{least('gateway_worker_up', by='worker')} == 0"
EJECTED = f"{most('gateway_worker_ejected', by='worker')} == 1"


def _now() -> Row:
    return Row("Now", [*_health(), *_saturation()])


def _health() -> list[Panel]:
    return [
        stat(
            "Replicas", "none", f"count(count by (instance) ({series('gateway_build_info')}))",
            "Replicas that Prometheus reached at its last scrape. Fewer than you run: look at the "
            "pods, then at the scrape's own error under Status, Targets in Prometheus.",
            red=1, low=True,
        ),
        stat(
            "Requests", "reqps", rate(REQUESTS),
            "Requests that ended, refused ones included. A sudden fall to 0 with replicas up means "
            "that clients do not reach them: look at the edge.",
        ),
        stat(
            "Failed", "percentunit", FAILED_SHARE,
            "Of the requests that were ours to answer, those that failed: 5xx, and streams that "
            "broke. Not counted: what a client did wrong or would not wait for, and answers that "
            "the model spoilt. Look at Errors by code below: upstream_* is a worker's, queue_* a "
            "pool that is too small, audit_unavailable the spool's disk.",
            orange=0.01, red=0.05,
        ),
        stat(
            "First token, p95", "s", quantile(0.95, "gateway_time_to_first_token_seconds"),
            "From a request's arrival to the first token that its client may see; long prompts "
            "take minutes by nature. If it grows at the same traffic, see the latency board: is it "
            "the queue, the workers' reading, or ourselves?",
            orange=30, red=120,
        ),
        stat(
            "Hidden text shown", "none", increase("gateway_hidden_text_shown_total"),
            "Times that text may have reached a client which should be hidden, in the time shown. "
            "Must be 0. Otherwise find the request by the log event hidden_text_shown, and take "
            "its worker out of the pool.",
            red=0.5, over_range=True, decimals=0,
        ),
        stat(
            "Not ready", "none", f"count({least('gateway_ready', by='instance')} < 1) or vector(0)",
            "Replicas whose /readyz is 503, draining ones included. The edge sends them nothing, "
            "so no error counts what their clients miss. Not ready, by reason says why.",
            orange=1, red=2,
        ),
    ]  # fmt: skip


def _saturation() -> list[Panel]:
    return [
        stat(
            "In flight", "none", total("gateway_in_flight_requests"),
            "Requests that have not ended yet, waiting ones included.",
        ),
        stat(
            "Waiting for a worker", "none", total("gateway_queued_requests"),
            "If it stays above 0 the pool is too small, or workers are out: see the table below.",
            orange=5, red=100,
        ),
        stat(
            "Workers out", "none", f"count({DOWN} or {EJECTED}) or vector(0)",
            "Workers to which at least one replica sends nothing: not ready, failed the check of "
            "its parser, or ejected. `gateway workers list` says why.",
            orange=1, red=2,
        ),
        stat(
            "Without Redis", "none", total("gateway_limits_degraded"),
            "Replicas that cannot ask Redis and enforce their share of each limit alone. Requests "
            "go on; budgets close after an allowance. Is Redis up, and does it answer within "
            "GATEWAY_REDIS_TIMEOUT_SECONDS?",
            red=1,
        ),
        stat(
            "Audit lag", "s", most("gateway_audit_oldest_unshipped_seconds"),
            "How long the oldest audit record has waited to reach PostgreSQL. Nothing is lost "
            "while the spool's disk has room. Is the database up, and may the gateway write to it?",
            orange=60, red=600,
        ),
        stat(
            "Loop lag, p99", "s", quantile(0.99, "gateway_event_loop_lag_seconds"),
            "How late the event loop gets its turn. Above 0.1 s every stream stutters: too little "
            "processor time, or one huge prompt. Add replicas or processes.",
            orange=0.1, red=0.5,
        ),
    ]  # fmt: skip


def _requests() -> Row:
    return Row("Requests", [
        lines(
            "Requests by status", "reqps",
            "499: the client left. 429: a limit of its own. 503: no worker, no spool, or draining. "
            "502 and 504: a worker failed or fell silent.",
            Query(rate(REQUESTS, by="status"), "{{status}}"),
            stacked=True, colours={"2..": GREEN, "4..": ORANGE, "5..": RED},
        ),
        lines(
            "Errors by code", "reqps",
            "Every refusal and failure by the code that its client was told. What clients do wrong "
            "is here, too: judge by the code, not by the sum.",
            Query(rate(REQUESTS, by="code", where='code!=""'), "{{code}}"),
        ),
        lines(
            "Not ready, by reason", "none",
            "Replicas that fail a check of /readyz. accepting: it drains, which ends within "
            "GATEWAY_DRAIN_SECONDS. workers: none is ready. audit: the spool's disk. database: "
            "PostgreSQL cannot be asked for keys.",
            Query(f"sum by (check) (1 - {series('gateway_ready')})", "{{check}}"),
            Query(total("gateway_draining"), "draining"),
        ),
        lines(
            "Duration", "s",
            "From a request's arrival to the end of its answer. It follows the length of the "
            "answers: compare it with the time between tokens on the latency board.",
            *(Query(quantile(share, "gateway_request_duration_seconds"), f"p{share * 100:g}")
              for share in (0.5, 0.95, 0.99)),
        ),
        lines(
            "Streams that broke", "reqps",
            "Answers that had begun and ended with an error event. upstream_error and "
            "upstream_timeout: a worker died or fell silent, see the table of workers. "
            "shutting_down: a drain was too short.",
            Query(rate("gateway_stream_errors_total", by="code"), "{{code}}"),
        ),
        lines(
            "Clients that left", "reqps",
            "Before the end of their answer; given_up: the worker was stopped, went_on: a dear "
            "prefill was finished for their return. A rise often means that clients' deadlines are "
            "shorter than the wait: see the first token's time.",
            Query(rate("gateway_client_cancelled_total"), "left"),
            Query(rate("gateway_departures_total", by="work"), "{{work}}"),
            Query(rate("gateway_attached_total"), "came again, joined"),
        ),
    ])  # fmt: skip


def _limits() -> Row:
    return Row("Limits, Redis and traces", [
        lines(
            "Refused by a limit", "reqps",
            "429, by the limit: requests or tokens a minute, requests at a time, budgets of a day "
            "or month. One tenant's business, unless all are refused at once.",
            Query(rate("gateway_rate_limited_total", by="scope"), "{{scope}}"),
            width=6,
        ),
        lines(
            "Redis", "none",
            "Replicas that share the limits as Redis counts them, and those that cannot ask it. A "
            "shared count that differs from the replicas you run: they use different Redis "
            "prefixes or databases.",
            Query(most("gateway_replicas"), "share the limits"),
            Query(total("gateway_limits_degraded"), "without Redis"),
            width=6,
        ),
        lines(
            "Redis, unanswered", "ops",
            "Calls that met an error or no answer in time, and budgets counted again from the "
            "audit log. Single ones are decided here and harm nobody; three in a row open the "
            "breaker.",
            Query(rate("gateway_limits_unanswered_total"), "unanswered"),
            Query(rate("gateway_budget_recounts_total", by="outcome"), "recount: {{outcome}}"),
            width=6,
        ),
        lines(
            "Spans of traces", "ops",
            "At 0 where traces are off. queue_full or failed: the collector is away or too slow; "
            "spans are dropped and no request waits.",
            Query(rate("gateway_trace_spans_total", by="outcome"), "{{outcome}}"),
            width=6,
        ),
    ])  # fmt: skip


def _audit() -> Row:
    return Row("Audit log", [
        lines(
            "Records", "ops",
            "Two for each request. Refused: the spool's disk is full, fails, or is too slow; new "
            "requests get 503 audit_unavailable and the replica is not ready.",
            Query(rate("gateway_audit_records_total"), "written"),
            Query(rate("gateway_audit_records_refused_total"), "refused"),
            width=6,
        ),
        lines(
            "Waiting to be shipped", "none",
            "Records in the spools of all replicas that PostgreSQL does not have yet. It may rise "
            "for as long as the disks have room; it must fall again.",
            Query(total("gateway_audit_backlog_records"), "records"),
            width=6,
        ),
        lines(
            "Waiting to be shipped, bytes", "bytes",
            "The same, as room on the disk of each spool.",
            Query(most("gateway_audit_backlog_bytes", by="instance"), "{{instance}}"),
            width=6,
        ),
        lines(
            "Room on the spool's disk", "bytes",
            "What is left. A full disk stops all requests (503 audit_unavailable): what fills it, "
            "if not the records that wait?",
            Query(least("gateway_audit_spool_free_bytes", by="instance"), "{{instance}}"),
            width=6,
        ),
    ])  # fmt: skip


OVERVIEW = Board(
    "overview",
    "Qwythos Gateway / Overview",
    "Is it up, what fails, who waits, what is full. Begin here when you are called.",
    [_now(), _requests(), workers(), waiting(), _limits(), _audit()],
)
