"""Two rows of the overview: the workers one by one, and what is waiting or full."""

from deploy.grafana.board import Row
from deploy.grafana.panels import Column, Query, Thresholds, lines, table
from deploy.grafana.promql import least, most, quantile, rate, series, total

UPSTREAM = "gateway_upstream_requests_total"


def workers() -> Row:
    return Row("Workers", [
        table("Workers", "worker", _worker_columns(), _WORKERS_TEXT, height=7),
        lines(
            "Failures of workers", "reqps",
            "Requests to a worker that did not succeed, by what happened. One worker alone: drain "
            "it (`gateway workers drain`). All of them: the network, or the engine's new version.",
            Query(
                rate(UPSTREAM, by="worker, outcome", where='outcome!="ok"'),
                "{{worker}} {{outcome}}",
            ),
        ),
        lines(
            "Second tries", "reqps",
            "Requests given to another worker before the model had spoken, by reason; withheld "
            "ones would have been a storm. Clients notice nothing of those that succeed.",
            Query(rate("gateway_upstream_retries_total", by="reason"), "{{reason}}"),
            Query(rate("gateway_retries_withheld_total"), "withheld"),
        ),
        lines(
            "Ejections and lost patience", "reqps",
            "Workers left alone after faults in a row or while their tokens stood still, and "
            "requests on which one was given up. Its own log and `nvidia-smi` say more.",
            Query(rate("gateway_worker_ejections_total", by="worker, reason"),
                  "{{worker}} ejected: {{reason}}"),
            Query(rate("gateway_worker_timeouts_total", by="worker, timeout"),
                  "{{worker}} too late: {{timeout}}"),
        ),
        lines(
            "Changes of the pool", "ops",
            "Workers that came, went, or were drained, by who said so, and lists that could not be "
            "used. refused: the file or the name server's answer is bad, and the workers stay as "
            "they were (`gateway workers check FILE`).",
            Query(rate("gateway_worker_changes_total", by="change, source"),
                  "{{change}} by {{source}}"),
            Query(rate("gateway_worker_lists_read_total", by="source, outcome"),
                  "list of {{source}} {{outcome}}"),
            width=12,
        ),
        lines(
            "Probes and stops", "ops",
            "Silent workers that were asked for one token, and requests that an engine was told to "
            "stop. Failed probes lead to an ejection; failed stops leave a GPU at work for nobody.",
            Query(rate("gateway_worker_active_probes_total", by="outcome"), "probe {{outcome}}"),
            Query(rate("gateway_worker_aborts_total", by="outcome"), "stop {{outcome}}"),
            width=12,
        ),
    ])  # fmt: skip


_WORKERS_TEXT = (
    "As the replica sees it that thinks worst of it. Up 0: it gets nothing; `gateway workers list` "
    "says why. KV cache near 100 % with requests waiting in it: it is full, add a worker. To read: "
    "tokens of prompts that it was given and has not finished reading."
)


def _worker_columns() -> list[Column]:
    must, must_not = Thresholds(red=1, low=True), Thresholds(red=1)
    never = f"0 * {least('gateway_worker_up', by='worker')}"  # of one that was not ejected yet
    ejected = f"{most('gateway_worker_ejected', by='worker')} or {never}"
    return [
        Column("Up", "none", least("gateway_worker_up", by="worker"), must),
        Column("Ejected", "none", ejected, must_not),
        Column("Drained", "none", most("gateway_worker_draining", by="worker"), Thresholds(1)),
        Column("In flight", "none", total("gateway_worker_in_flight", by="worker")),
        Column("To read", "short", total("gateway_worker_prefill_tokens", by="worker")),
        Column("Running there", "none", most("gateway_worker_reported_running", by="worker")),
        Column(
            "Waiting there", "none", most("gateway_worker_reported_waiting", by="worker"),
            Thresholds(1, 10),
        ),
        Column(
            "KV cache", "percentunit",
            most("gateway_worker_reported_kv_usage_ratio", by="worker"), Thresholds(0.8, 0.95),
        ),
    ]  # fmt: skip


def waiting() -> Row:
    return Row("Waiting and room", [
        lines(
            "Requests that wait for a worker", "none",
            "By priority; batch gets one turn of eight while others wait. Growing without end: the "
            "pool is too small for the traffic.",
            Query(total("gateway_queued_requests", by="priority"), "{{priority}}"),
            stacked=True,
        ),
        lines(
            "Wait in the queue", "s",
            "Of requests that had to wait and got a worker. At GATEWAY_QUEUE_SECONDS they are "
            "refused with 503 queue_timeout.",
            *(Query(quantile(share, "gateway_queue_wait_seconds", by="priority"),
                    f"p{share * 100:g} {{{{priority}}}}") for share in (0.5, 0.95)),
        ),
        lines(
            "Event loop lag", "s",
            "How late the event loop gets its turn. What holds it up holds up every stream of that "
            "process.",
            *(Query(quantile(share, "gateway_event_loop_lag_seconds"), f"p{share * 100:g}")
              for share in (0.5, 0.99)),
            red=0.5,
        ),
        lines(
            "Connections and files in use", "percentunit",
            "Of what a replica may have. At 100 % new clients are refused: raise "
            "GATEWAY_MAX_CONNECTIONS, the limit of open files, or the number of replicas.",
            Query(_fullest("gateway_open_connections", "gateway_connections_limit"), "connections"),
            Query(_fullest("gateway_open_files", "gateway_open_files_limit"), "open files"),
            red=0.9,
        ),
        lines(
            "Processor time", "none",
            "Cores that a replica uses; one process can use one. With several processes in a "
            "replica the library cannot tell: see the container's own metrics.",
            Query(rate("process_cpu_seconds_total", by="instance"), "{{instance}}"),
        ),
        lines(
            "Memory", "bytes",
            "Of a replica's process. Queued prompts and running answers are held in it: it follows "
            "the traffic and falls again. One that only rises is a leak. With several processes in "
            "a replica the library cannot tell.",
            Query(most("process_resident_memory_bytes", by="instance"), "{{instance}}"),
        ),
    ])  # fmt: skip


def _fullest(used: str, limit: str) -> str:
    return f"max({series(used)} / {series(limit)})"
