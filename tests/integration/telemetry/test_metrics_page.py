"""`/metrics` as scrapers take it."""

import asyncio
import re
import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.collector import Collector
from tests.support.conditions import eventually_found
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

OPEN_METRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
FIRST_TOKEN = "gateway_time_to_first_token_seconds"
COUNTED_SECONDS = 60.0  # for what a connection does to be counted; only spent on failure
CHECK_SECONDS = 60.0


async def page(gateway: RunningGateway, headers: dict[str, str] | None = None) -> str:
    response = await gateway.request("GET", "/metrics", headers=headers)
    assert response.status == 200
    asked = "application/openmetrics-text" if headers else "text/plain"
    assert response.headers["content-type"].startswith(asked)
    return response.body.decode()


def check_metrics(text: str) -> "subprocess.CompletedProcess[str]":
    command = ["promtool", "check", "metrics"]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=CHECK_SECONDS
    )


async def test_promtool_finds_nothing_to_mend(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: install Debian's `prometheus`, or Prometheus itself")
    await gateway.chat(stream=True)
    checked = await asyncio.to_thread(check_metrics, await page(gateway))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_a_scraper_that_asks_for_open_metrics_gets_the_same_series(
    gateway: RunningGateway,
) -> None:
    await gateway.chat()
    plain, open_metrics = await page(gateway), await page(gateway, OPEN_METRICS)
    assert open_metrics.endswith("# EOF\n")
    families = {family.name for family in text_string_to_metric_families(open_metrics)}
    names = set(re.findall(r"^# TYPE (\S+)", plain, re.MULTILINE))
    assert {name.removesuffix("_total") for name in names} == families
    assert "trace_id" not in open_metrics


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
async def test_whoever_asks_for_a_version_that_is_none_gets_the_text(
    gateway: RunningGateway, kind: str
) -> None:
    response = await gateway.request("GET", "/metrics", headers={"accept": f"{kind};version=new"})
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain")


async def test_a_first_token_says_in_which_trace_it_was_seen(
    start_gateway: StartGateway, worker: ScriptedWorker, collector: Collector
) -> None:
    gateway = await start_gateway(worker, otlp_endpoint=collector.url, trace_flush_seconds=0.05)
    await gateway.chat()
    trace_id = (await collector.request()).trace_id
    text = await page(gateway, OPEN_METRICS)
    (family,) = (f for f in text_string_to_metric_families(text) if f.name == FIRST_TOKEN)
    exemplars = [sample.exemplar for sample in family.samples if sample.exemplar is not None]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": trace_id}]
    assert "trace_id" not in await page(gateway)


async def test_what_the_edge_refuses_is_counted(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker)
    async with gateway.raw() as client:
        await client.send(b"GET / HTTP/1.1\r\n\r\n")  # without a Host
        assert (await client.head()).status == 400

    async def counted() -> str | None:
        text = await page(gateway)
        line = 'gateway_edge_refusals_total{code="invalid_http_request"} 1.0'
        return text if line in text else None

    text = await eventually_found(counted, COUNTED_SECONDS, "a refusal that is counted")
    assert "gateway_draining 0.0" in text
    assert "gateway_connections_limit 10000.0" in text
    assert re.search(r"^gateway_open_files [1-9]", text, re.MULTILINE)
