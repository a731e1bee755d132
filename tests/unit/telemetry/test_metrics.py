import re
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from app.protocol.events import Usage
from app.protocol.findings import CallRefusal, Findings, Hidden, Stopped
from app.settings import MODEL_ALIAS, MODEL_ID, Engine
from app.telemetry.metrics import MAX_REQUEST_SERIES, FinishedRequest, Metrics
from app.telemetry.series import SEAL_EVENTS
from tests.unit.telemetry.series_contract import CONTRACT, FORBIDDEN_LABELS, UNITS

ROUTE = "/v1/chat/completions"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), version="1.2.3")


def finished(**fields: Any) -> FinishedRequest:
    return FinishedRequest(
        **{
            "route": ROUTE,
            "model": MODEL_ALIAS,
            "status": 200,
            "code": None,
            "stream": True,
            "duration_seconds": 2.0,
            "usage": Usage(100, 50, 20, 10, exact=True),
            "overhead_seconds": 0.002,
            "time_to_first_token_seconds": 0.5,
            "token_gaps_seconds": (0.02, 0.02, 3.0),
            **fields,
        }
    )


def everything_found() -> Findings:
    findings = Findings(stopped=Stopped.LOOP_IN_THOUGHT, shown_too_early=1)
    findings.hide(Hidden.MARKUP)
    findings.refuse("rm", CallRefusal.NOT_ALLOWED)
    return findings


def everything_happens(metrics: Metrics) -> None:
    with metrics.in_flight():
        metrics.request_finished(finished())
    metrics.rate_limited("tokens")
    metrics.limits_degraded(True)
    metrics.replicas_seen(3)
    metrics.budget_recounted("done")
    metrics.authentication_failed("throttled")
    metrics.client_cancelled()
    metrics.stream_failed("upstream_error")
    metrics.kept_alive("comment")
    metrics.upstream_succeeded("http://w:1")
    metrics.upstream_failed("http://w:1", "connect")
    metrics.upstream_retried("connect")
    metrics.worker_up("http://w:1", up=True)
    metrics.worker_checked("http://w:1", "ok")
    metrics.answer_found(everything_found(), engine=Engine.SGLANG, disagreed=True)
    metrics.answer_rescued("retry", "answered")
    metrics.tool_refused()
    metrics.sealed_reasoning("restored")
    metrics.request_adjusted("temperature")
    metrics.prompt_estimated(1.2)
    metrics.pool.worker_load("http://w:1", 3, 2_000)
    metrics.pool.queue_depth("batch", 2)
    metrics.pool.waited("interactive", 1.5)
    metrics.pool.placed("affinity")
    metrics.pool.long_prefill()
    metrics.pool.affinity_looked_up("hit")
    metrics.pool.prefill_saved(12.5)
    metrics.pool.ejected("http://w:1", ejected=True)
    metrics.pool.ejection("http://w:1", "hung")
    metrics.pool.timed_out("http://w:1", "first_byte")
    metrics.pool.aborted("http://w:1", "ok")
    metrics.pool.actively_probed("http://w:1", "ok")
    metrics.pool.reported("http://w:1", 2, 1, 0.4)
    metrics.pool.retry_withheld()
    metrics.pool.worker_changed("drained", "admin")
    metrics.pool.worker_draining("http://w:1", draining=True)
    metrics.pool.workers_read("file", "taken")
    metrics.pool.first_token("long", 12.0)
    metrics.pool.used("long", Usage(100, 50, 20, 10))
    metrics.process.loop_lag(0.003)
    metrics.process.connections(3, 10_000)
    metrics.process.edge_refused("request_timeout")
    metrics.process.draining(True)
    metrics.process.files()
    metrics.process.spans("exported", 3)
    metrics.audit_written(2)
    metrics.audit_refused()
    metrics.audit_set_aside(1)
    metrics.audit_chain_broken()
    metrics.audit_open_metadata()
    metrics.audit_redaction_failed()
    metrics.audit_checkpointed("file")
    metrics.audit_checkpoint_failed("s3")
    metrics.audit_checkpoint_age(12.0)
    metrics.audit_backlog(4, in_bytes=900, oldest_seconds=2.5)


def families(metrics: Metrics) -> dict[str, Metric]:
    body, content_type = metrics.render()
    assert content_type.startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def sample(metrics: Metrics, sample_name: str, **labels: str) -> float:
    for family in families(metrics).values():
        for found in family.samples:
            if found.name == sample_name and found.labels == labels:
                return found.value
    raise AssertionError(f"no {sample_name} with {labels}")


def test_the_series_are_those_that_dashboards_rely_on(metrics: Metrics) -> None:
    everything_happens(metrics)
    shown = {
        name: sorted({label for s in family.samples for label in s.labels} - {"le"})
        for name, family in families(metrics).items()
        if name.startswith("gateway_")
    }
    assert shown == CONTRACT


def test_every_series_has_help_a_type_a_unit_and_bounded_labels(metrics: Metrics) -> None:
    everything_happens(metrics)
    for name, family in families(metrics).items():
        assert name.startswith(("gateway_", "process_"))
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        shown = name + "_total" if family.type == "counter" else name
        assert shown.endswith(UNITS) or name.startswith("process_"), name
        assert re.fullmatch("[a-z_]+", name)
        for found in family.samples:
            assert not FORBIDDEN_LABELS & found.labels.keys()
            assert not found.name.endswith("_created")


def test_a_finished_request_is_counted_with_its_times_and_tokens(metrics: Metrics) -> None:
    metrics.request_finished(finished())
    metrics.request_finished(finished())
    labels = {"route": ROUTE, "model": MODEL_ID, "stream": "true"}
    assert sample(metrics, "gateway_requests_total", status="200", code="", **labels) == 2
    assert sample(metrics, "gateway_request_duration_seconds_sum", **labels) == 4
    assert sample(metrics, "gateway_overhead_seconds_count") == 2
    assert sample(metrics, "gateway_time_to_first_token_seconds_sum", model=MODEL_ID) == 1
    gaps = "gateway_inter_token_latency_seconds"
    assert sample(metrics, f"{gaps}_count", model=MODEL_ID) == 6
    assert sample(metrics, f"{gaps}_bucket", model=MODEL_ID, le="0.02") == 4
    for kind, tokens in [("prompt", 200), ("completion", 100), ("reasoning", 40), ("cached", 20)]:
        assert sample(metrics, "gateway_tokens_total", model=MODEL_ID, kind=kind) == tokens


def test_a_request_that_reached_no_worker_has_no_overhead_and_no_tokens(metrics: Metrics) -> None:
    refused = finished(status=429, code="rate_limit_exceeded", overhead_seconds=None)
    metrics.request_finished(refused)
    assert sample(metrics, "gateway_overhead_seconds_count") == 0
    assert families(metrics)["gateway_tokens"].samples == []


def test_a_model_that_a_client_made_up_is_other(metrics: Metrics) -> None:
    for number in range(1000):
        metrics.request_finished(finished(model=f"made-up-{number}"))
    metrics.request_finished(finished(model=None))
    shown = {found.labels["model"] for found in families(metrics)["gateway_requests"].samples}
    assert shown == {"other"}


def test_series_stay_bounded_whatever_codes_and_routes_come(metrics: Metrics) -> None:
    for number in range(3 * MAX_REQUEST_SERIES):
        metrics.request_finished(finished(route=f"/{number}", code=str(number)))
    shown = families(metrics)["gateway_requests"].samples
    assert len(shown) <= MAX_REQUEST_SERIES + 2
    assert sum(found.value for found in shown) == 3 * MAX_REQUEST_SERIES


def test_in_flight_counts_only_what_runs_also_after_a_failure(metrics: Metrics) -> None:
    def fail() -> None:
        with metrics.in_flight(), metrics.in_flight():
            assert sample(metrics, "gateway_in_flight_requests") == 2
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert sample(metrics, "gateway_in_flight_requests") == 0


def test_what_was_found_in_an_answer_is_counted_by_its_kind(metrics: Metrics) -> None:
    findings = everything_found()
    for _ in range(2):
        findings.hide(Hidden.IN_ANSWER)
        findings.refuse("mv", CallRefusal.SCHEMA)
    metrics.answer_found(findings, engine=Engine.VLLM, disagreed=True)
    assert sample(metrics, "gateway_think_leak_prevented_total", where="markup") == 1
    assert sample(metrics, "gateway_think_leak_prevented_total", where="in_answer") == 2
    assert sample(metrics, "gateway_hidden_text_shown_total") == 1
    assert sample(metrics, "gateway_answers_stopped_total", reason="loop_in_thought") == 1
    assert sample(metrics, "gateway_tool_calls_refused_total", reason="not_allowed") == 1
    assert sample(metrics, "gateway_tool_calls_refused_total", reason="schema") == 2
    assert sample(metrics, "gateway_parser_disagreement_total", engine="vllm") == 1
    assert sample(metrics, "gateway_parser_disagreement_total", engine="sglang") == 0


def test_an_answer_in_which_nothing_was_found_changes_nothing(metrics: Metrics) -> None:
    before = found_counts(metrics)
    metrics.answer_found(Findings(), engine=Engine.VLLM, disagreed=False)
    metrics.answer_found(Findings(), engine=None, disagreed=False)
    assert found_counts(metrics) == before


def test_what_policies_do_is_counted(metrics: Metrics) -> None:
    metrics.answer_rescued("salvage", "empty")
    metrics.tool_refused()
    metrics.sealed_reasoning("expired")
    metrics.request_adjusted("max_tokens")
    rescued = "gateway_answers_rescued_total"
    assert sample(metrics, rescued, kind="salvage", outcome="empty") == 1
    assert sample(metrics, rescued, kind="salvage", outcome="answered") == 0
    assert sample(metrics, "gateway_tools_refused_total") == 1
    assert sample(metrics, "gateway_sealed_reasoning_total", event="expired") == 1
    assert sample(metrics, "gateway_requests_adjusted_total", field="max_tokens") == 1


def test_the_first_check_of_a_worker_shows_all_of_its_outcomes(metrics: Metrics) -> None:
    metrics.worker_checked("http://w:1", "failed")
    metrics.worker_checked("http://w:1", "failed")
    check = "gateway_worker_check_total"
    assert sample(metrics, check, worker="http://w:1", outcome="failed") == 2
    assert sample(metrics, check, worker="http://w:1", outcome="ok") == 0
    assert sample(metrics, check, worker="http://w:1", outcome="undecided") == 0


def test_the_objective_stands_where_it_is_read(metrics: Metrics) -> None:
    shown = families(metrics)
    assert shown["gateway_hidden_text_shown"].documentation.endswith("Objective: 0.")
    prevented = shown["gateway_think_leak_prevented"].documentation
    assert "gateway_hidden_text_shown_total stays 0" in prevented


def found_counts(metrics: Metrics) -> dict[str, float]:
    """All but what the library says of the process itself."""
    return {
        f"{found.name}{sorted(found.labels.items())}": found.value
        for name, family in families(metrics).items()
        if name.startswith("gateway_")
        for found in family.samples
    }


def test_what_should_stay_at_zero_is_shown_before_it_happens(metrics: Metrics) -> None:
    assert sample(metrics, "gateway_audit_records_refused_total") == 0
    assert sample(metrics, "gateway_audit_records_set_aside_total") == 0
    assert sample(metrics, "gateway_rate_limited_total", scope="concurrency") == 0
    assert sample(metrics, "gateway_keepalives_total", kind="delta") == 0
    assert sample(metrics, "gateway_build_info", version="1.2.3") == 1
    labels: list[tuple[str, str, Iterable[str]]] = [
        ("gateway_think_leak_prevented_total", "where", Hidden),
        ("gateway_parser_disagreement_total", "engine", Engine),
        ("gateway_answers_stopped_total", "reason", Stopped),
        ("gateway_tool_calls_refused_total", "reason", CallRefusal),
        ("gateway_sealed_reasoning_total", "event", SEAL_EVENTS),
        ("gateway_requests_adjusted_total", "field", ("temperature", "max_tokens")),
    ]
    for name, label, values in labels:
        for value in values:
            assert sample(metrics, name, **{label: value}) == 0
    for name in ("gateway_hidden_text_shown_total", "gateway_tools_refused_total"):
        assert sample(metrics, name) == 0
