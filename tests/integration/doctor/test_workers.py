"""Workers that are away, another's, or show what they should not."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.doctor.examine import examine
from app.doctor.finding import Finding, Status
from app.doctor.visit import Visit
from app.settings import WorkerSettings
from tests.integration.doctor.conftest import MakeVisit
from tests.integration.doctor.visiting import of, statuses
from tests.support.answers import Answer
from tests.support.scripted_worker import ScriptedWorker

KEY = "a-key-of-the-workers-own"


async def examined(visit: Visit) -> dict[str, Finding]:
    """What is said of the workers, without their names."""
    findings = [each for each in await examine(visit) if each.check.startswith("worker")]
    assert len({finding.check for finding in findings}) == len(findings)
    return {" ".join(finding.check.split()[2:]) or "itself": finding for finding in findings}


@pytest.fixture
def of_worker(visit: MakeVisit, worker: ScriptedWorker) -> MakeVisit:
    """`of_worker(field=value)`: a gateway in front of `worker`, with these fields of its entry."""

    def make(**fields: Any) -> Visit:
        return visit(workers=[worker.settings() | {"api_key": KEY} | fields])

    return make


async def test_a_good_worker_is_asked_for_all_that_it_has_to_do(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.answers(Answer(cached_tokens=0), Answer(cached_tokens=528, prompt_tokens=8_000))
    worker.kv_usage, worker.started_at = 0.1, 1_700_000_000.0
    found = await examined(of_worker())
    assert {name: found[name].status.value for name in found} == {
        "itself": "ok",
        "context": "ok",
        "metrics": "ok",
        "access": "warning",  # the scripted worker asks nobody for a key
        "thoughts": "ok",
        "calls": "ok",
        "prefix cache": "ok",
    }
    assert found["prefix cache"].found.startswith("528 of 8000 tokens")
    assert "room in tokens" in found["metrics"].found


async def test_questions_cost_nothing_that_nobody_asked_for(
    visit: MakeVisit, worker: ScriptedWorker
) -> None:
    asked = visit(workers=[worker.settings()])
    quiet = Visit(asked.settings, asked.now, asks_workers=False)
    found = await examined(quiet)
    assert found["thoughts"].status is Status.SKIPPED
    assert worker.checks == []
    assert worker.requests == []


async def test_one_that_is_away_costs_the_others_nothing(
    visit: MakeVisit, worker: ScriptedWorker, unused_port: int
) -> None:
    away = f"http://127.0.0.1:{unused_port}"
    findings = await examine(visit(workers=[away, worker.settings()]))
    assert of(findings, f"worker 127.0.0.1:{unused_port}").status is Status.FAILED
    there = f"worker {WorkerSettings.model_validate(worker.settings()).name}"
    assert of(findings, there).status is Status.OK


async def test_one_that_leaks_its_thoughts_is_refused(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.splits = False
    finding = (await examined(of_worker()))["thoughts"]
    assert finding.status is Status.FAILED
    assert "--reasoning-parser" in (finding.advice or "")


async def test_one_that_leaks_and_is_taken_nevertheless_is_warned_of(
    visit: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.splits = False
    found = await examined(visit(workers=[worker.settings()], worker_check="warn"))
    assert found["thoughts"].status is Status.WARNING


async def test_another_model_is_named(of_worker: MakeVisit, worker: ScriptedWorker) -> None:
    worker.model = "another/model"
    finding = (await examined(of_worker()))["itself"]
    assert finding.status is Status.WARNING
    assert "another/model" in finding.found
    assert (await examined(of_worker(model="another/model")))["itself"].status is Status.OK
    finding = (await examined(of_worker(model="a-third")))["itself"]
    assert finding.status is Status.FAILED
    assert "it lists another/model" in finding.found


async def test_a_worker_that_lists_what_is_in_its_cache_may_serve_another(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.model = "another/model"
    found = await examined(of_worker(engine="transformers", model="/models/qwythos"))
    assert found["itself"].status is Status.OK
    assert found["itself"].found == "serves /models/qwythos"


async def test_a_longer_context_than_it_has_is_refused(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.max_model_len = 32_768
    finding = (await examined(of_worker(max_model_len=1_010_000)))["context"]
    assert finding.status is Status.FAILED
    assert "1,010,000 tokens by its settings, 32,768 by its word" in finding.found
    assert (await examined(of_worker(max_model_len=16_384)))["context"].status is Status.OK


async def test_cached_tokens_that_it_does_not_tell_are_missed(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.answers(Answer())
    finding = (await examined(of_worker()))["prefix cache"]
    assert finding.status is Status.WARNING
    assert "--enable-prompt-tokens-details" in (finding.advice or "")
    worker.answers(Answer(cached_tokens=0))
    finding = (await examined(of_worker()))["prefix cache"]
    assert "--enable-prefix-caching" in (finding.advice or "")


async def test_metrics_that_are_missing_are_named(
    of_worker: MakeVisit, worker: ScriptedWorker
) -> None:
    worker.has_metrics = False
    finding = (await examined(of_worker()))["metrics"]
    assert finding.status is Status.WARNING
    assert "status 404 to /metrics" in finding.found


async def test_one_that_answers_without_its_key_is_told_of(of_worker: MakeVisit) -> None:
    finding = (await examined(of_worker()))["access"]
    assert finding.status is Status.WARNING
    assert finding.found == "it answers without its key"


async def test_workers_of_a_file_are_found(
    visit: MakeVisit, worker: ScriptedWorker, tmp_path: Path
) -> None:
    file = tmp_path / "workers.json"
    file.write_text(json.dumps([worker.url]))
    assert (await examined(visit(workers_file=file)))["itself"].status is Status.OK
    file.write_text("{")
    (finding,) = (await examined(visit(workers_file=file))).values()
    assert finding.status is Status.SKIPPED
    assert "GATEWAY_WORKERS_FILE" in finding.found


async def test_workers_behind_a_name_are_found(visit: MakeVisit, worker: ScriptedWorker) -> None:
    port = worker.url.rpartition(":")[2]
    findings = await examine(visit(workers_dns=f"http://localhost:{port}"))
    assert statuses(findings)[f"worker 127.0.0.1:{port}"] == "ok"


async def test_a_name_that_nobody_knows_is_told_of(visit: MakeVisit) -> None:
    (finding,) = (await examined(visit(workers_dns="http://no-such-name.invalid:8000"))).values()
    assert finding.status is Status.FAILED
    assert "no-such-name.invalid" in finding.found
