import pytest
from pydantic import SecretStr

from app.settings import SettingsError, load_settings
from app.settings.trace import parse_headers


@pytest.mark.parametrize(
    ("endpoint", "posted_to"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://o.example/otlp/v1/traces", "https://o.example/otlp/v1/traces"),
    ],
)
def test_a_bare_address_means_the_path_of_the_protocol(endpoint: str, posted_to: str) -> None:
    assert load_settings(otlp_endpoint=endpoint).traces_url == posted_to


def test_there_are_none_by_default() -> None:
    settings = load_settings()
    assert settings.traces_url is None
    assert not settings.trace_content


@pytest.mark.parametrize(
    "endpoint", ["http://me:hunter22@collector:4318", "http://collector:4318/?key=hunter22"]
)
def test_a_credential_in_the_address_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_OTLP_HEADERS") as refused:
        load_settings(otlp_endpoint=endpoint)
    assert "hunter22" not in str(refused.value)


def test_headers_are_pairs_and_a_value_may_hold_what_a_credential_holds() -> None:
    secret = SecretStr("Authorization=Basic dXNlcjpwYXNz==, x-scope=a")
    assert parse_headers(secret) == {"authorization": "Basic dXNlcjpwYXNz==", "x-scope": "a"}


@pytest.mark.parametrize("headers", ["hunter22", "=hunter22", "a b=hunter22", "a=hunter22\r\nb=c"])
def test_headers_that_are_none_are_refused_without_being_repeated(headers: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_OTLP_HEADERS") as refused:
        load_settings(otlp_headers=headers)
    assert "hunter22" not in str(refused.value)
