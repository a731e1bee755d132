"""What is said of the settings and of the machine, without asking anybody."""

import resource
from pathlib import Path

import pytest

from app.doctor.configured import check
from app.doctor.finding import Finding, Status
from app.doctor.machine import memory, open_files
from app.doctor.visit import Visit
from app.settings import load_settings
from app.settings.forms import MIB

GOOD = {
    "database_url": "postgresql://gateway@db/gateway",
    "key_pepper": "bmV2ZXIgdXNlZCBhbnl3aGVyZSBidXQgaGVyZQ==",
    "workers": ["http://10.0.0.5:8000"],
}


def findings(**settings: object) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in check(Visit(load_settings(**settings), lambda: 0.0)):
        found.setdefault(finding.check, []).append(finding)
    return found


def test_good_settings_are_good() -> None:
    found = findings(**GOOD)
    assert [finding.status for finding in found["settings"]] == [Status.OK]
    assert [finding.status for finding in found["secrets"]] == [Status.OK]


def test_all_that_is_missing_is_named_at_once() -> None:
    named = [finding.found.partition(":")[0] for finding in findings()["settings"]]
    assert named == ["GATEWAY_DATABASE_URL", "GATEWAY_KEY_PEPPER", "GATEWAY_WORKERS"]


@pytest.mark.parametrize("pepper", ["changeme", "test", "my-secret"])
def test_a_placeholder_is_no_secret(pepper: str) -> None:
    (finding,) = findings(**GOOD | {"key_pepper": pepper})["secrets"]
    assert finding.status is Status.FAILED
    assert pepper not in f"{finding}"
    assert "openssl rand" in (finding.advice or "")


@pytest.mark.parametrize("pepper", ["short", "a" * 64])
def test_a_secret_that_can_be_guessed_is_warned_of(pepper: str) -> None:
    (finding,) = findings(**GOOD | {"key_pepper": pepper})["secrets"]
    assert finding.status is Status.WARNING


def test_a_secret_is_for_one_purpose() -> None:
    (finding,) = findings(**GOOD | {"admin_token": GOOD["key_pepper"]})["secrets"]
    assert finding.status is Status.WARNING


def test_a_name_that_is_no_setting_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_QUEUE_SECOND", "5")
    (_, finding) = findings(**GOOD)["settings"]
    assert finding.status is Status.WARNING
    assert "GATEWAY_QUEUE_SECOND" in finding.found


def test_replicas_without_redis_multiply_the_limits() -> None:
    (finding,) = findings(**GOOD, replicas=4)["limits"]
    assert finding.status is Status.WARNING
    (finding,) = findings(**GOOD, redis_url="redis://h", replicas=4)["limits"]
    assert finding.status is Status.OK


def test_a_limit_of_memory_is_held_against_what_a_busy_process_needs(tmp_path: Path) -> None:
    settings = load_settings()
    limit = tmp_path / "memory.max"
    for text, status in (
        ("max", Status.OK),
        (f"{256 * MIB}", Status.WARNING),
        (f"{1024 * MIB}", Status.OK),
        (f"{(1 << 63) - 4096}", Status.OK),
    ):
        limit.write_text(f"{text}\n")
        assert memory(settings, [limit]).status is status
    assert memory(settings, [tmp_path / "none"]).status is Status.OK


@pytest.mark.parametrize(
    ("hard", "status"),
    [
        (1_024, Status.WARNING),
        (2 * 10_000 + 256, Status.OK),
        (resource.RLIM_INFINITY, Status.OK),
    ],
)
def test_each_connection_needs_two_open_files(hard: int, status: Status) -> None:
    finding = open_files(load_settings(max_connections=10_000), hard)
    assert finding.status is status
    assert "20,256 are needed" in finding.found
