"""Secrets in settings that cannot be used: what is said of these, by every command that reads
them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.operations.canaries import SECRETS, Journal
from tests.operations.commands_said import run_command

DATABASE = SECRETS["database_password"]
REDIS = SECRETS["redis_password"]
WORKER = SECRETS["worker_key"]
COLLECTOR = SECRETS["collector_key"]

COMPLETE = {
    "GATEWAY_DATABASE_URL": f"postgresql://u:{DATABASE}@127.0.0.1:1/d",  # nothing listens there
    "GATEWAY_REDIS_URL": f"redis://:{REDIS}@127.0.0.1:1/0",
    "GATEWAY_WORKERS": json.dumps([{"url": "http://127.0.0.1:1", "api_key": WORKER}]),
    "GATEWAY_KEY_PEPPER": SECRETS["key_pepper"],
    "GATEWAY_ADMIN_TOKEN": SECRETS["admin_token"],
    "GATEWAY_SEALING_KEY": SECRETS["sealing_key"],
}
SPOILED: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "a database that is none": {"DATABASE_URL": f"postgresql://u:{DATABASE}@h:x/d"},
    "another database": {"DATABASE_URL": f"mysql://u:{DATABASE}@h/d"},
    "an option of it": {"DATABASE_URL": f"postgresql://u:{DATABASE}@h/d?password={REDIS}"},
    "a Redis that is none": {"REDIS_URL": f"rebis://:{REDIS}@h"},
    "a port of it that is none": {"REDIS_URL": f"redis://:{REDIS}@h:x/0"},
    "a sealing key that is none": {"SEALING_KEY": SECRETS["admin_token"]},
    "a signing key that is none": {"AUDIT_SIGNING_KEY": SECRETS["admin_token"]},
    "workers that are no JSON": {"WORKERS": f'[{{"api_key": "{WORKER}"'},
    "an unknown field": {"WORKERS": json.dumps([{"url": "http://h", "apikey": WORKER}])},
    "a URL that is none": {"WORKERS": json.dumps([{"url": f"h {WORKER}", "api_key": WORKER}])},
    "a key that is no text": {"WORKERS": json.dumps([{"url": "http://h", "api_key": [WORKER]}])},
    "headers that are none": {"OTLP_HEADERS": COLLECTOR},
    "a credential in a URL": {"OTLP_ENDPOINT": f"http://u:{COLLECTOR}@h:4318"},
    "a secret as another setting": {"PORT": SECRETS["admin_token"]},
    "a file that is no YAML": {"CONFIG": "spoiled.yaml"},
    "a file with an unknown name": {"CONFIG": "unknown.yaml"},
}
READERS = (["serve"], ["config", "check"], ["config", "print", "--all"], ["keys", "list"])


@pytest.mark.parametrize("where", SPOILED)
def test_settings_that_cannot_be_used_are_told_without_their_secrets(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret, pepper = SECRETS["admin_token"], SECRETS["key_pepper"]
    Path("spoiled.yaml").write_text(f"admin_token: {secret}\n  - x: [{pepper}\n")
    Path("unknown.yaml").write_text(f"admin_tokens: {secret}\nworkers: {pepper}\n")
    given = COMPLETE | {f"GATEWAY_{name}": value for name, value in SPOILED[where].items()}
    journal = Journal()
    for words in READERS:
        code = run_command(words, given | {"GATEWAY_HOME": str(tmp_path)}, journal)
        assert code in (0, 1, 2)
        assert (words[0] in ("serve", "keys")) <= (code != 0)
    assert all(b"Traceback" not in said for said in journal.found.values())
    assert journal.leaks(SECRETS) == []
