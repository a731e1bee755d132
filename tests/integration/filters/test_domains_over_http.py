"""High-risk domains: told to the client, refused, or passed over, as its key says."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.filters.samples import metrics_of, write_rules
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

MEDICAL = "I have chest pain and shortness of breath, should I worry?"
LEGAL = "My landlord wants to evict me; can I sue him in court?"
HARMLESS = "How do I write a loop in Python?"
HEADER = "x-gateway-domains"
ANNOTATE = {"medical": "annotate", "law": "annotate"}
PROFILES = """
profiles:
  careful: {domains: {medical: refuse, law: annotate}}
  trial: {domains: {medical: refuse, law: annotate}, dry_run: true}
"""
streamed_or_folded = pytest.mark.parametrize("stream", [True, False])


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@streamed_or_folded
async def test_a_domain_is_told_in_a_header(stream: bool, gateway: RunningGateway) -> None:
    key = await gateway.issue_key(domains=ANNOTATE)
    response = await gateway.chat(key=key, stream=stream, messages=asked(MEDICAL))
    assert response.status == 200
    assert response.headers[HEADER] == "medical"
    assert b'"gateway"' not in response.body
    both = await gateway.chat(key=key, stream=stream, messages=asked(f"{MEDICAL} {LEGAL}"))
    assert sorted(both.headers[HEADER].split(", ")) == ["law", "medical"]
    harmless = await gateway.chat(key=key, stream=stream, messages=asked(HARMLESS))
    assert HEADER not in harmless.headers


@streamed_or_folded
async def test_a_domain_is_told_in_the_body_to_a_client_that_asks(
    stream: bool, gateway: RunningGateway
) -> None:
    key = await gateway.issue_key(domains=ANNOTATE)
    for text, domains in {MEDICAL: ["medical"], HARMLESS: []}.items():
        response = await gateway.chat(
            key=key,
            stream=stream,
            messages=asked(text),
            gateway={"annotate": True},
            stream_options={"include_usage": True} if stream else None,
        )
        if stream:
            told = [chunk["gateway"] for chunk in response.stream.chunks if "gateway" in chunk]
            assert told == [{"domains": domains}]
        else:
            assert response.json["gateway"] == {"domains": domains}


async def test_the_openai_client_can_ask_for_it_and_read_it(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(domains=ANNOTATE)
    async with gateway.sdk(key=key) as client:
        completion = await client.chat.completions.create(
            model="qwythos",
            messages=[{"role": "user", "content": MEDICAL}],
            extra_body={"gateway": {"annotate": True}},
        )
    assert completion.model_extra is not None
    assert completion.model_extra["gateway"] == {"domains": ["medical"]}


async def test_a_worker_never_hears_of_it(gateway: RunningGateway, worker: ScriptedWorker) -> None:
    key = await gateway.issue_key(domains=ANNOTATE)
    await gateway.chat(key=key, messages=asked(MEDICAL), gateway={"annotate": True})
    assert "gateway" not in worker.only.json


@streamed_or_folded
async def test_a_domain_that_is_not_allowed_is_refused(
    stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(domains={"medical": "refuse", "law": "annotate"})
    response = await gateway.chat(key=key, stream=stream, messages=asked(MEDICAL))
    assert response.status == 403
    error = response.error
    assert "medical" in error["message"]
    assert (error["type"], error["param"]) == ("permission_error", "messages")
    assert error["code"] == "domain_not_allowed"
    assert worker.requests == []
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("refused", 403, "domain_not_allowed")
    found = row.findings["domains"]["medical"]
    assert found["action"] == "refuse"
    assert found["score"] > 0
    assert "shortness of breath" in found["terms"]
    assert MEDICAL not in str(row)
    legal = await gateway.chat(key=key, stream=stream, messages=asked(LEGAL))
    assert (legal.status, legal.headers[HEADER]) == (200, "law")


async def test_the_older_route_is_refused_by_its_own_field(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(domains={"medical": "refuse"})
    body = json.dumps({"model": "qwythos", "prompt": MEDICAL}).encode()
    response = await gateway.request("POST", "/v1/completions", body=body, key=key)
    assert (response.status, response.error["param"]) == (403, "prompt")


async def test_a_key_without_domains_hears_nothing_of_them(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    for domains in (None, {"medical": "allow"}):
        key = await gateway.issue_key(domains=domains)
        response = await gateway.chat(key=key, messages=asked(MEDICAL))
        assert response.status == 200
        assert HEADER not in response.headers
        assert "domains" not in (await gateway.audited(response.request_id)).findings
    assert len(worker.requests) == 2


async def test_what_a_key_says_goes_over_what_its_profile_says(
    start_gateway: StartGateway, worker: ScriptedWorker, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "own.yaml", PROFILES)
    gateway = await start_gateway(worker, rules=rules, filter_profile="careful")
    assert (await gateway.chat(messages=asked(MEDICAL))).status == 403
    lenient = await gateway.issue_key(domains={"medical": "allow"})
    response = await gateway.chat(key=lenient, messages=asked(f"{MEDICAL} {LEGAL}"))
    assert (response.status, response.headers[HEADER]) == (200, "law")
    harder = await gateway.issue_key(domains={"law": "refuse"})
    assert (await gateway.chat(key=harder, messages=asked(LEGAL))).status == 403


async def test_a_dry_run_counts_domains_and_tells_nobody(
    start_gateway: StartGateway, worker: ScriptedWorker, tmp_path: Path
) -> None:
    gateway = await start_gateway(worker, rules=write_rules(tmp_path / "own.yaml", PROFILES))
    key = await gateway.issue_key(filter_profile="trial")
    response = await gateway.chat(key=key, messages=asked(MEDICAL), gateway={"annotate": True})
    assert response.status == 200
    assert HEADER not in response.headers
    assert response.json["gateway"] == {"domains": []}
    row = await gateway.audited(response.request_id)
    assert row.findings["domains"]["medical"]["action"] == "count"


async def test_only_what_a_person_asked_is_looked_at(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(domains={"medical": "refuse"})
    system = {"role": "system", "content": MEDICAL}
    assert (await gateway.chat(key=key, messages=[system, *asked(HARMLESS)])).status == 200
    parts = [{"type": "text", "text": MEDICAL}]
    response = await gateway.chat(key=key, messages=[{"role": "user", "content": parts}])
    assert response.status == 403
    assert len(worker.requests) == 1


async def test_domains_are_counted(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(domains={"medical": "refuse", "law": "annotate"})
    for text in (MEDICAL, LEGAL, LEGAL):
        await gateway.chat(key=key, messages=asked(text))
    lines = [line for line in (await metrics_of(gateway)).splitlines() if "domain" in line]
    counted = [line for line in lines if not line.startswith("#") and not line.endswith(" 0.0")]
    assert any('"medical"' in line and '"refuse"' in line and " 1.0" in line for line in counted)
    assert any('"law"' in line and '"annotate"' in line and " 2.0" in line for line in counted)
