"""What the settings of the edge take, and what they say where they do not."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from app.settings import SettingsError, load_settings

VARIABLE = "GATEWAY_TRUSTED_PROXIES"


def test_nobody_is_trusted_unless_named() -> None:
    settings = load_settings()
    assert settings.trusted_proxies == ()
    assert settings.failed_authentications_per_minute == 30


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        VARIABLE, '["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1", "::ffff:10.1.0.0/112"]'
    )
    assert load_settings().trusted_proxies == tuple(
        map(ip_network, ("10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1", "10.1.0.0/16"))
    )


def test_trusted_proxies_may_stand_in_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("trusted_proxies: [10.0.0.0/8]\nfailed_authentications_per_minute: 5\n")
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    settings = load_settings()
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert settings.failed_authentications_per_minute == 5


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("10.0.0.0/8", 'must be a JSON list, for example ["10.0.0.0/8"]'),
        ('"10.0.0.0/8"', 'must be a JSON list, for example ["10.0.0.0/8"]'),
        ('["10.0.0.1/8"]', "must be an address, or a network without host bits"),
        ('["proxy.internal"]', "must be an address"),
        ('[""]', "must be an address"),
        ("[10]", "must be an address"),
        ('["*"]', "must be an address"),
        ('["0.0.0.0/0"]', "names every address there is"),
        ('["::/0"]', "names every address there is"),
        ('["::ffff:0:0/96"]', "names every address there is"),
    ],
)
def test_what_is_no_proxy_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).startswith(VARIABLE)
    assert reason in str(refusal.value)


def test_a_bucket_of_no_failures_would_refuse_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_FAILED_AUTHENTICATIONS_PER_MINUTE", "0")
    with pytest.raises(SettingsError, match="GATEWAY_FAILED_AUTHENTICATIONS_PER_MINUTE"):
        load_settings()


def test_the_first_fault_is_told_with_how_many_more_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "many")
    monkeypatch.setenv("GATEWAY_WORKERS", "many")
    monkeypatch.setenv("GATEWAY_THINKING_TOKENS_BY_EFFORT", "many")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).endswith("(and 2 more: see `gateway config check`)")
    assert {fault.partition(":")[0] for fault in refusal.value.faults} == {
        "GATEWAY_PORT",
        "GATEWAY_THINKING_TOKENS_BY_EFFORT",
        "GATEWAY_WORKERS",
    }


def test_a_secret_whose_file_cannot_be_read_is_named_with_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATEWAY_KEY_PEPPER_FILE", str(tmp_path / "{none}"))
    with pytest.raises(
        SettingsError, match=r"^GATEWAY_KEY_PEPPER_FILE: cannot read .*\{none\}: No"
    ):
        load_settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("drain_seconds: 5\ndrain_seconds: 6\n", "line 1: a name that stands there twice"),
        ("drain_seconds: yes\n", "GATEWAY_DRAIN_SECONDS: must be a number"),
        ("max_thinking_tokens: on\n", "GATEWAY_MAX_THINKING_TOKENS: must be a number"),
        ("key_pepper: *hunter22\n", "line 1: found undefined alias$"),
        ("key_pepper: !hunter22 x\n", "line 1: could not determine a constructor for the tag$"),
        ("workers: " + "[" * 20_000, "is not YAML: it is nested too deeply"),
    ],
)
def test_what_yaml_reads_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(content)
    monkeypatch.setenv("GATEWAY_CONFIG", str(file))
    with pytest.raises(SettingsError, match=reason):
        load_settings()
