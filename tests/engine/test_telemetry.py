"""What a real vLLM says of itself, and what is made of it."""

import httpx
from openai import OpenAI

from app.upstream.telemetry import Telemetry, parse_metrics
from tests.engine.conftest import TELL_SECONDS, Engine, RunningGateway
from tests.engine.conversation import CAPITAL, MODEL, user
from tests.engine.processes import wait_until

REPORT_SECONDS = 120  # two probes, on a busy machine


def said_by(engine: Engine) -> Telemetry:
    page = httpx.get(f"{engine.url}/metrics", timeout=TELL_SECONDS).raise_for_status().content
    return parse_metrics(page)


def test_it_says_all_that_is_asked_of_it(engine: Engine, client: OpenAI) -> None:
    before = said_by(engine)
    assert before.capacity_tokens is not None
    assert before.capacity_tokens > 1_000_000
    assert before.started_at is not None
    assert before.kv_usage is not None
    client.chat.completions.create(model=MODEL, messages=[user(CAPITAL)])
    after = said_by(engine)
    assert after.started_at == before.started_at
    assert (after.prompt_tokens or 0) > (before.prompt_tokens or 0)
    assert (after.generation_tokens or 0) > (before.generation_tokens or 0)


def test_the_gateway_tells_what_it_says(gateway: RunningGateway) -> None:
    def told() -> bool:
        text = httpx.get(f"{gateway.url}/metrics", timeout=TELL_SECONDS).raise_for_status().text
        return "\ngateway_worker_reported_running{" in text

    wait_until(told, REPORT_SECONDS, "the worker's report in the gateway's metrics")
