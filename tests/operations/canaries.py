"""What is planted, and where it was found: secrets that may stand nowhere, texts that may stand in
what is kept of a request alone."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from app.store.secrets import mint_secret


def _sealing_key(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


def _well_formed_key() -> str:
    return mint_secret(b"a pepper that is not ours").secret


# Each is told apart by its own words. Those of settings are secrets of this process, which it knows
# by value; those that clients bring are known by their form.
SECRETS: Mapping[str, str] = {
    "key_pepper": "canary-pepper-0f83c1d2a4",
    "admin_token": "canary-admin-token-5be2910c7f",
    "sealing_key": _sealing_key(b"S"),
    "audit_signing_key": _sealing_key(b"A"),
    "database_password": "canary-database-pass-71f0ac",
    "redis_password": "canary-redis-pass-22d9be04",
    "worker_key": "canary-worker-key-9a3f7711e0",
    "collector_key": "canary-collector-key-c4418f",
    "s3_secret": "canary/s3+secret/access/key/8d20b7aa31",
    "unknown_key": _well_formed_key(),
    "malformed_key": "sk-qw-canaryMalformed0001",
    "another_services_key": "sk-proj-canary-0123456789abcdef",
    "basic_credentials": base64.b64encode(b"canary:basic-password").decode(),
}

TEXTS: Mapping[str, str] = {
    "system": "canary-system-prompt heliotrope",
    "prompt": "canary-user-prompt marzipan",
    "user": "canary-user-field-0042",
    "tool": "canary-tool-description quicksand",
    "thought": "canary-hidden-thought obsidian",
    "answer": "canary-answer-text tamarind",
    "arguments": "canary-arguments-value peppermint",
    "query": "canary-query-string-77",
}
# What no client ever sees, whoever asked.
HIDDEN = ("thought",)


# Where a text is cut, a secret's beginning may be left: this is more than we let stand.
BEGINNING_BYTES = 16


@dataclass
class Journal:
    """All that came out, by where it came out."""

    found: dict[str, bytes] = field(default_factory=dict, repr=False)

    def note(self, where: str, what: bytes | str) -> None:
        raw = what.encode() if isinstance(what, str) else what
        self.found[where] = self.found.get(where, b"") + raw

    def leaks(self, canaries: Mapping[str, str], but: Iterable[str] = ()) -> list[str]:
        """`name in place` for each that stands in a place, whose name begins with none of `but`."""
        excepted = tuple(but)
        return [
            f"{name} in {where}"
            for where, what in self.found.items()
            if not where.startswith(excepted)
            for name, value in canaries.items()
            if any(form in what for form in _forms(value))
        ]


def _forms(value: str) -> set[bytes]:
    """As it is, its beginning, in a URL, in JSON, in hexadecimal digits (bytea), within base64."""
    raw = value.encode()
    return {
        raw,
        raw[:BEGINNING_BYTES],
        quote(value, safe="").encode(),
        json.dumps(value)[1:-1].encode(),
        raw.hex().encode(),
        *(base64.b64encode(b" " * shift + raw)[4:-4] for shift in range(3)),
    }
