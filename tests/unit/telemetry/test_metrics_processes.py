"""The metrics of several processes, rendered by one."""

import os
import subprocess
import sys
from pathlib import Path

from app.settings import MODEL_ID

START_SECONDS = 120  # of a process, and until it has said all; only spent on failure

PROCESS = """
import os, sys
from app.telemetry.metrics import FinishedRequest, Metrics
from prometheus_client.multiprocess import mark_process_dead
from app.protocol.events import Usage
from app.protocol.findings import Findings, Hidden, Stopped
from app.settings import Engine

metrics = Metrics(version="1")
if sys.argv[1] == "work":
    metrics.in_flight().__enter__()
    found = Findings(shown_too_early=1, stopped=Stopped.THINKING_QUOTA)
    found.hide(Hidden.AFTER_CALL)
    metrics.answer_found(found, engine=Engine.VLLM, disagreed=True)
    metrics.worker_checked("w", "ok")
    metrics.worker_up("w", up=len(sys.argv) == 2)
    metrics.request_finished(
        FinishedRequest("r", "qwythos", 200, None, False, 1.0, Usage(7, 1), 0.1, 0.2, (0.02, 0.03))
    )
    print(os.getpid(), flush=True)
    sys.stdin.read()
else:
    for pid in sys.argv[2:]:
        mark_process_dead(int(pid))
    sys.stdout.write(metrics.render()[0].decode())
"""


def test_several_processes_count_together_and_the_dead_ones_gauges_are_forgotten(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rendered(*dead: str) -> str:
        return start("render", *dead).communicate(timeout=START_SECONDS)[0]

    with start("work") as first, start("work", "down") as second:
        assert first.stdout is not None
        assert second.stdout is not None
        pids = [first.stdout.readline().strip(), second.stdout.readline().strip()]
        both = rendered()
        second.communicate(timeout=START_SECONDS)
        one = rendered(pids[1])
        first.communicate(timeout=START_SECONDS)

    assert "gateway_in_flight_requests 2.0" in both
    assert 'gateway_worker_up{worker="w"} 0.0' in both
    assert 'gateway_build_info{version="1"} 1.0' in both
    assert "gateway_in_flight_requests 1.0" in one
    assert 'gateway_worker_up{worker="w"} 1.0' in one
    for text in (both, one):
        assert f'gateway_tokens_total{{kind="prompt",model="{MODEL_ID}"}} 14.0' in text
        assert f'gateway_inter_token_latency_seconds_count{{model="{MODEL_ID}"}} 4.0' in text
        assert 'gateway_think_leak_prevented_total{where="after_call"} 2.0' in text
        assert 'gateway_think_leak_prevented_total{where="markup"} 0.0' in text
        assert "gateway_hidden_text_shown_total 2.0" in text
        assert 'gateway_parser_disagreement_total{engine="vllm"} 2.0' in text
        assert 'gateway_answers_stopped_total{reason="thinking_quota"} 2.0' in text
        assert 'gateway_worker_check_total{outcome="ok",worker="w"} 2.0' in text
        assert "# HELP gateway_in_flight_requests Requests that" in text
