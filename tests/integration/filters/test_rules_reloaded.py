"""An operator's own rules: taken without a restart, and refused whole where one of them is bad."""

from pathlib import Path

import pytest

from app.settings import SettingsError
from tests.integration.filters.conftest import Logged
from tests.integration.filters.samples import ADDRESS, metrics_of, write_rules
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

RELOAD_SECONDS = 0.02
TAKEN_SECONDS = 60.0  # for rules to be compiled; only spent on failure
TEXT = "About ACME-1234, the blue heron."


def own_rules(rule: str, *, profile: str = "support") -> str:
    return f"""
pack: acme
rules:
  - {rule}
profiles:
  {profile}: {{output: {{acme: mask}}, input: {{acme: refuse}}}}
"""


TICKETS = own_rules("{id: ticket, pattern: 'ACME-[0-9]{4}', replacement: '[ticket]'}")
BIRDS = own_rules("{id: project, phrases: [blue heron]}")
UNBOUNDED = own_rules("{id: ticket, pattern: 'ACME-[0-9]+'}")
NOT_YAML = "pack: [acme"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "own.yaml", TICKETS)


@pytest.fixture
async def gateway(
    logged: Logged, start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> RunningGateway:
    worker.answers(Answer(list(TEXT)))
    return await start_gateway(worker, rules=path, rules_reload_seconds=RELOAD_SECONDS)


def remove(path: Path) -> None:
    path.unlink()


async def reloaded(gateway: RunningGateway, outcome: str, times: int) -> None:
    """Once that many changes were `taken` or `refused`."""
    line = f'gateway_rules_reloads_total{{outcome="{outcome}"}} {times}.0'

    async def counted() -> str | None:
        return line if line in await metrics_of(gateway) else None

    await eventually_found(counted, TAKEN_SECONDS, line)


async def said(gateway: RunningGateway, key: str) -> str:
    response = await gateway.chat(key=key)
    assert response.status == 200
    text: str = response.message["content"]
    assert (await gateway.stream(key=key)).text() == text
    return text


async def test_own_rules_act_for_the_keys_that_name_their_profile(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="support")
    assert await said(gateway, key) == "About [ticket], the blue heron."
    assert await said(gateway, gateway.key) == TEXT
    before = len(worker.requests)
    response = await gateway.chat(key=key, messages=[{"role": "user", "content": TEXT}])
    assert (response.status, response.error["code"]) == (400, "content_filter")
    assert "acme.ticket" in response.error["message"]
    assert len(worker.requests) == before


async def test_changed_rules_act_without_a_restart(gateway: RunningGateway, path: Path) -> None:
    key = await gateway.issue_key(filter_profile="support")
    assert await said(gateway, key) == "About [ticket], the blue heron."
    write_rules(path, BIRDS)
    await reloaded(gateway, "taken", 1)
    assert await said(gateway, key) == "About ACME-1234, the [project]."


async def test_bad_rules_are_refused_whole_and_told_once(
    logged: Logged, gateway: RunningGateway, path: Path
) -> None:
    key = await gateway.issue_key(filter_profile="support")
    for times, bad in enumerate((UNBOUNDED, NOT_YAML, UNBOUNDED), start=1):
        write_rules(path, bad)
        await reloaded(gateway, "refused", times)
        assert await said(gateway, key) == "About [ticket], the blue heron."
    write_rules(path, BIRDS)
    await reloaded(gateway, "taken", 1)
    assert await said(gateway, key) == "About ACME-1234, the [project]."
    await reloaded(gateway, "refused", 3)
    told = logged.named("rules_refused")
    assert [line["level"] for line in told] == ["error"] * 3
    assert told[0]["reason"].startswith("own.yaml: rule ticket: pattern: ")
    assert told[1]["reason"].startswith("own.yaml: not YAML: ")
    assert len(logged.named("rules_reloaded")) == 1


async def test_rules_that_are_gone_leave_those_that_were_read(
    logged: Logged, gateway: RunningGateway, path: Path
) -> None:
    key = await gateway.issue_key(filter_profile="support")
    remove(path)
    await reloaded(gateway, "refused", 1)
    assert await said(gateway, key) == "About [ticket], the blue heron."
    write_rules(path, BIRDS)
    await reloaded(gateway, "taken", 1)
    assert len(logged.named("rules_refused")) == 1


async def test_files_that_appear_in_a_directory_are_taken(
    start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> None:
    worker.answers(Answer(list(TEXT)))
    gateway = await start_gateway(worker, rules=path.parent, rules_reload_seconds=RELOAD_SECONDS)
    write_rules(
        path.parent / "birds.yaml",
        "pack: birds\nrules: [{id: project, phrases: [blue heron]}]\n"
        "profiles: {both: {output: {acme: mask, birds: mask}}}",
    )
    await reloaded(gateway, "taken", 1)
    key = await gateway.issue_key(filter_profile="both")
    assert await said(gateway, key) == "About [ticket], the [project]."


# -- profiles that are not there


@pytest.mark.parametrize("stream", [True, False])
async def test_a_key_of_an_unknown_profile_is_served_nothing(
    stream: bool, logged: Logged, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="nobodys")
    response = await gateway.chat(key=key, stream=stream)
    assert response.status == 500
    assert response.error["code"] == "filter_profile_missing"
    assert "nobodys" not in response.body.decode()
    assert response.headers["x-should-retry"] == "false"
    assert worker.requests == []
    (line,) = logged.named("filter_profile_missing")
    assert (line["level"], line["profile"]) == ("error", "nobodys")
    row = await gateway.audited(response.request_id)
    assert (row.status, row.error_code) == (500, "filter_profile_missing")


async def test_a_profile_that_is_taken_away_takes_its_keys_with_it(
    gateway: RunningGateway, worker: ScriptedWorker, path: Path
) -> None:
    key = await gateway.issue_key(filter_profile="support")
    assert await said(gateway, key) == "About [ticket], the blue heron."
    write_rules(path, TICKETS.replace("support:", "another:"))
    await reloaded(gateway, "taken", 1)
    before = len(worker.requests)
    response = await gateway.chat(key=key)
    assert (response.status, response.error["code"]) == (500, "filter_profile_missing")
    assert len(worker.requests) == before
    assert (await gateway.chat()).status == 200


async def test_rules_without_the_profile_of_all_keys_are_refused(
    start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> None:
    gateway = await start_gateway(
        worker, rules=path, rules_reload_seconds=RELOAD_SECONDS, filter_profile="support"
    )
    write_rules(path, TICKETS.replace("support:", "another:"))

    async def noticed() -> str | None:
        lines = (await metrics_of(gateway)).splitlines()
        counts = [line for line in lines if line.startswith("gateway_rules_reloads_total")]
        return next((line for line in counts if line.endswith(" 1.0")), None)

    line = await eventually_found(noticed, TAKEN_SECONDS, "the change")
    assert "refused" in line
    assert (await gateway.chat()).status == 200


# -- at start


async def test_a_gateway_with_bad_rules_does_not_start(
    start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> None:
    write_rules(path, UNBOUNDED)
    with pytest.raises(SettingsError) as refused:
        await start_gateway(worker, rules=path)
    assert str(refused.value).startswith("GATEWAY_RULES: own.yaml: rule ticket: pattern: ")


async def test_a_gateway_without_its_files_does_not_start(
    start_gateway: StartGateway, worker: ScriptedWorker, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_RULES: cannot read .*none\.yaml"):
        await start_gateway(worker, rules=tmp_path / "none.yaml")


async def test_a_gateway_whose_profile_is_not_there_does_not_start(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    with pytest.raises(SettingsError, match='GATEWAY_FILTER_PROFILE: there is no profile "mine"'):
        await start_gateway(worker, filter_profile="mine")


async def test_what_ships_can_be_replaced_for_all_keys(
    start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> None:
    write_rules(path, own_rules("{id: project, phrases: [blue heron]}", profile="default"))
    gateway = await start_gateway(worker, rules=path)
    worker.answers(Answer([TEXT, f" {ADDRESS}"]))
    assert (await gateway.chat()).message["content"] == (
        f"About ACME-1234, the [project]. {ADDRESS}"
    )
