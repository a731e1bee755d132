"""What an operator's rules find is masked before it is stored, and nowhere else."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import decode_chunk
from app.main import create_app
from app.protocol.filters.json_filter import JsonFilter
from app.settings import SettingsError, load_settings
from tests.integration.audit.promises.asking import counted
from tests.integration.audit.promises.kept import Kept, WitnessDisk, is_stored, kept
from tests.integration.filters.samples import write_rules
from tests.support.answers import Answer
from tests.support.conditions import eventually_found
from tests.support.gateway import PEPPER, Response, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

WITHIN_SECONDS = 60.0  # only spent on failure
TICKET = "ACME-4711"
BIRD = "blue heron"
TEXT = f"About {TICKET}, the {BIRD}."


def own_rules(rule: str) -> str:
    return f"""
pack: acme
rules:
  - {rule}
profiles:
  stored: {{input: {{acme: refuse}}}}
"""


TICKETS = own_rules("{id: ticket, pattern: 'ACME-[0-9]{4}', replacement: '[ticket]'}")
BIRDS = own_rules("{id: project, phrases: [blue heron], replacement: '[bird]'}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rules(tmp_path / "own.yaml", TICKETS)


@pytest.fixture
async def gateway(
    witness: WitnessDisk, start_gateway: StartGateway, worker: ScriptedWorker, path: Path
) -> RunningGateway:
    """It has each piece of an answer on disk, as far as that is kept, before it sends it."""
    worker.answers(Answer(list(TEXT), pace_seconds=0.001))
    return await start_gateway(
        worker,
        rules=path,
        rules_reload_seconds=0.02,
        audit_redaction="stored",
        audit_strict=True,
    )


async def ask(gateway: RunningGateway, *, before: str = "", stream: bool = False) -> Response:
    messages = [{"role": "user", "content": before + TEXT}]
    response = await gateway.chat(messages=messages, stream=stream, user=TICKET)
    shown = response.stream.text() if stream else response.message["content"]
    assert shown == TEXT
    return response


def chunks_in(witness: WitnessDisk) -> Iterator[str]:
    """What they say of the answer."""
    for frame in witness.frames():
        if frame.kind == FrameKind.CHUNK:
            yield decode_chunk(frame.payload).choices["0"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_stored_is_masked_and_what_is_sent_is_not(
    witness: WitnessDisk, gateway: RunningGateway, worker: ScriptedWorker, stream: bool
) -> None:
    response = await ask(gateway, stream=stream)
    assert worker.requests[-1].json["messages"][-1]["content"] == TEXT
    found = await kept(gateway, response.request_id)
    masked = f"About [ticket], the {BIRD}."
    assert found.messages[0]["content"] == masked
    assert found.answers["0"]["content"] == masked
    assert found.parameters["user"] == "[ticket]"
    assert "".join(chunks_in(witness)).startswith("About [ticket], the ")
    assert not await is_stored(gateway, witness, TICKET)


async def test_rules_that_change_are_followed(
    gateway: RunningGateway, worker: ScriptedWorker, path: Path
) -> None:
    write_rules(path, BIRDS)

    numbers = itertools.count()

    async def follows() -> Kept | None:
        """What was stored before is not stored again, whatever the rules are now."""
        response = await ask(gateway, before=f"{next(numbers)} ")
        found = await kept(gateway, response.request_id)
        return None if BIRD in str(found) else found

    found = await eventually_found(follows, WITHIN_SECONDS, "the new rules mask")
    masked = f"About {TICKET}, the [bird]."
    assert found.messages[0]["content"].endswith(masked)
    assert found.answers["0"]["content"] == masked


async def test_a_text_that_cannot_be_searched_is_not_stored(
    gateway: RunningGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(TEXT)

    monkeypatch.setattr(JsonFilter, "value", fail)
    response = await ask(gateway)
    found = await kept(gateway, response.request_id)
    assert TEXT not in str(found)
    assert TICKET not in str(found)
    assert await counted(gateway, "gateway_audit_redaction_failed_total") == 3


async def test_a_profile_that_is_none_stops_the_start(database_url: str) -> None:
    settings = load_settings(
        database_url=database_url,
        key_pepper=PEPPER,
        workers=["http://127.0.0.1:1"],
        audit_redaction="no-such",
    )
    with pytest.raises(SettingsError, match=r"GATEWAY_AUDIT_REDACTION.*no-such"):
        create_app(settings)
