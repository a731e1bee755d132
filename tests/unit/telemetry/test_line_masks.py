import json

import pytest

from app.known_secrets import KNOWN
from app.telemetry.line_masks import mask_line


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("sk-qw-0123456789abcdefABCDEF", "sk-***"),
        ("sk-proj-0123_4567-89abcdef", "sk-***"),
        ("Authorization: Bearer eyJhbGciOi.abc-_~+/=", "Authorization: Bearer ***"),
        ("authorization: bearer 0123456789", "authorization: bearer ***"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic ***"),
        ("at postgresql://gateway:p4ssw0rd@db:5432/x", "at postgresql://***@db:5432/x"),
        ("redis://:p4ss@redis:6379/0 away", "redis://***@redis:6379/0 away"),
        ("host=db password=hunter22 user=x", "host=db password=*** user=x"),
        ("GET /v1?api_key=0123456&x=1", "GET /v1?api_key=***&x=1"),
        ('{"api_key": "0123", "x": 1}', '{"api_key": "***", "x": 1}'),
        ("{'password': 'hunter22'}", "{'password': '***'}"),
        ("(b'x-api-key', b'hunter22')", "(b'x-api-key', b'***')"),
    ],
)
def test_what_looks_like_a_secret_is_masked_and_the_line_stays_json(text: str, masked: str) -> None:
    line = json.dumps({"event": "x", "reason": text}).encode()
    assert json.loads(mask_line(line)) == {"event": "x", "reason": masked}
    assert mask_line(text.encode()).decode() == masked


@pytest.mark.parametrize(
    "text",
    [
        "GATEWAY_ADMIN_TOKEN: is set but empty; give it a value or unset it",
        "prompt_tokens=5, max_tokens=16384",
        "disk-0123456789 at http://10.0.0.5:8000/v1",
        "write to ops@example.org",
        "OpenAI/Python 3.54.0",
        "the model server is busy, basically",
    ],
)
def test_what_only_resembles_one_stays(text: str) -> None:
    assert mask_line(text.encode()).decode() == text


def test_a_secret_of_this_process_is_masked_whatever_it_looks_like(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(KNOWN, "texts", ())
    monkeypatch.setattr(KNOWN, "_bytes", ())
    KNOWN.add("an innocent sentence")
    assert mask_line(b"it was an innocent sentence.") == b"it was ***."
