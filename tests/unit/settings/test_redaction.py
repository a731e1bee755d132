"""Of a URL all may be seen but its password, and nothing where that cannot be told."""

import pytest
from pydantic import SecretStr

from app.settings import WorkerSettings
from app.settings.redaction import shown, shown_url


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://gateway:hush@db:5432/x?ssl=true", "postgresql://gateway:***@db:5432/x?ssl=true"),
        ("postgresql://gateway@db/x", "postgresql://gateway@db/x"),
        ("redis://:hush@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://h:6379/0?password=hush&db=1", "redis://h:6379/0?password=***&db=1"),
        ("http://hush@w:8000", "http://***@w:8000"),
        ("http://w:8000/v1", "http://w:8000/v1"),
        # A password whose special characters nobody encoded.
        ("postgresql://gateway:hu@sh@db/x", "postgresql://gateway:***@db/x"),
        ("postgresql://gateway:hu/sh@db/x", "postgresql://***"),
        ("postgresql://gateway:hu#sh@db/x", "postgresql://***"),
        ("postgresql://gateway:hu?sh@db/x", "postgresql://***"),
        ("postgresql://gateway:hush@[db/x", "postgresql://***"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, seen: str) -> None:
    assert shown_url(url) == seen


@pytest.mark.parametrize(
    "secret", ["hush", "authorization=hush,x-from=https://example.org", "hush://hush", "://hush"]
)
def test_of_a_secret_that_is_no_url_of_the_settings_nothing_is_shown(secret: str) -> None:
    assert shown(SecretStr(secret)) == "***"
    assert shown(SecretStr("rediss://:hush@h:6379/0")) == "rediss://:***@h:6379/0"


def test_of_a_worker_only_what_was_said_is_shown_and_no_field_of_its_requests() -> None:
    worker = WorkerSettings.model_validate(
        {"url": "http://w", "api_key": "hush", "body_overrides": {"key": "hush"}, "tags": ["short"]}
    )
    assert shown((worker,)) == [
        {
            "url": "http://w/",
            "api_key": "***",
            "body_overrides": {"key": "***"},
            "tags": ["short"],
        }
    ]
