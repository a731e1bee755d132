"""The rules by which stored texts are masked, as they change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.gateway import redact
from app.gateway.redact import RedactionInUse
from app.rules.rulebook import UnknownProfile
from app.rules.watch import RulebookWatch
from app.telemetry.metrics import Metrics
from tests.support.conditions import eventually

WITHIN_SECONDS = 20.0  # only spent on failure
MESSAGE = {"role": "user", "content": "ACME-4711 and 42"}


def rules(pattern: str, profile: str = "stored") -> str:
    return f"""
pack: acme
rules: [{{id: ticket, pattern: '{pattern}', replacement: '[x]'}}]
profiles: {{{profile}: {{output: {{acme: mask}}}}}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(rules("ACME-[0-9]{4}"))
    return path


def watching(path: Path) -> RulebookWatch:
    return RulebookWatch(
        path, default_profile="default", reload_seconds=0.01, rules_reloaded=lambda taken: None
    )


def in_use(watch: RulebookWatch, profile: str | None) -> RedactionInUse:
    return RedactionInUse(watch, profile, Metrics(CollectorRegistry()))


@asynccontextmanager
async def following(
    redaction: RedactionInUse, watch: RulebookWatch, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    monkeypatch.setattr(redact, "POLL_SECONDS", 0.01)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(watch.run()), tasks.create_task(redaction.run())]
        yield
        for task in running:
            task.cancel()


def masked(redaction: RedactionInUse) -> bytes:
    return redaction().masked(MESSAGE)


def test_without_a_profile_nothing_is_masked(path: Path) -> None:
    redaction = in_use(watching(path), None)
    assert not redaction().masks
    assert b"ACME-4711 and 42" in masked(redaction)


def test_a_profile_that_is_none_is_refused(path: Path) -> None:
    with pytest.raises(UnknownProfile):
        in_use(watching(path), "no-such")


def change(path: Path, rules: str) -> None:
    path.write_text(rules)


async def test_a_change_is_followed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watching(path)
    redaction = in_use(watch, "stored")
    assert b"[x] and 42" in masked(redaction)
    async with following(redaction, watch, monkeypatch):
        change(path, rules("[0-9]{2}"))
        await eventually(
            lambda: b"ACME-[x][x] and [x]" in masked(redaction), WITHIN_SECONDS, "it is followed"
        )


async def test_a_profile_that_a_change_takes_away_masks_on_and_that_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watching(path)
    redaction = in_use(watch, "stored")
    with capture_logs() as logs:
        async with following(redaction, watch, monkeypatch):
            change(path, rules("[0-9]{2}", profile="another"))
            await eventually(
                lambda: "audit_redaction_profile_gone" in str(logs), WITHIN_SECONDS, "it is told"
            )
    assert b"[x] and 42" in masked(redaction)
