"""A thought, sealed: its holder can send it back and cannot read it.

    qs1.<key id>.<base64url(nonce, AES-256-GCM of the plaintext with its tag)>
    plaintext: expiry (8 bytes), length (4), the thought in UTF-8, zeros up to a multiple of 256

The key id is the beginning of the key's SHA-256. Version, key id, tenant and model are
authenticated with it, so that a seal opens only for the tenant and the model it was made for. What
its holder learns is how long the thought is, to 256 bytes, and which key sealed it.

How many seals: nonces are 96 random bits, so one key is safe for 2^32 of them (NIST SP 800-38D,
8.3); at 100 a second that is 497 days. Rotate well before.

How to rotate: put the new key first, and keep the old one behind it until the last seal made with
it has expired. With several replicas, add the new key last on all of them before any has it first:
a replica that does not know a key cannot open its seals.
"""

import hashlib
import math
import os
import re
import struct
from collections.abc import Sequence
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.protocol.key_list import KEY_BYTES, from_base64, parse_keys, to_base64url

KEY_ID_CHARACTERS = 8  # hexadecimal: tells the few keys of one gateway apart, and no more
# 1 Mi characters of four bytes. What a model thinks in 16,384 tokens is some 64 KiB.
MAX_THOUGHT_BYTES = 4 * 1024 * 1024
PAD_BYTES = 256  # some 64 tokens: the length of a seal tells little of the thought's
_VERSION = "qs1"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD = struct.Struct(">QI")  # expiry in unix seconds, bytes of the thought
_MAX_PLAIN_BYTES = -(-(_HEAD.size + MAX_THOUGHT_BYTES) // PAD_BYTES) * PAD_BYTES
_MAX_BODY_CHARACTERS = -(-(_NONCE_BYTES + _MAX_PLAIN_BYTES + _TAG_BYTES) * 4 // 3)
MAX_SEALED_CHARACTERS = len(_VERSION) + 1 + KEY_ID_CHARACTERS + 1 + _MAX_BODY_CHARACTERS
_BEGINNING = re.compile(rf"{_VERSION}\.([0-9a-f]{{{KEY_ID_CHARACTERS}}})\.")

# foreign: tampered with, or another tenant's or model's. The two cannot be told apart.
Breakage = Literal["malformed", "unknown_key", "foreign", "expired"]


class SealBroken(ValueError):
    """Nothing was opened, not even in part."""

    def __init__(self, reason: Breakage) -> None:
        super().__init__(f"the sealed reasoning cannot be opened: {reason}")
        self.reason: Breakage = reason


def parse_sealing_keys(text: str) -> tuple[bytes, ...]:
    """Keys of 32 bytes, in base64 (standard or URL-safe, padded or not), separated by commas.

    The first one seals, all of them open. Raises ValueError, which never quotes a key.
    """
    keys = parse_keys(text, "sealing key")
    _check_ids([key_id(key) for key in keys])
    return keys


def key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:KEY_ID_CHARACTERS]


class Sealer:
    """Seals with the first key and opens with any; a seal opens for `seconds` after it was made."""

    def __init__(self, keys: Sequence[bytes], *, seconds: float) -> None:
        """Raises ValueError for no key, one that is not 32 bytes long, or two with one id."""
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a sealer needs keys of {KEY_BYTES} bytes")
        _check_ids([key_id(key) for key in keys])
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self._sealing_id = key_id(keys[0])
        self._seconds = seconds

    def seal(self, thought: str, *, tenant: str, model: str, now: float) -> str:
        """`now` in unix seconds. The thought may be any text, also one that is not Unicode (lone
        surrogates). Raises ValueError above MAX_THOUGHT_BYTES: it could never be opened."""
        text = _encoded(thought)
        if len(text) > MAX_THOUGHT_BYTES:
            raise ValueError(f"a thought of {len(text)} bytes is too long to be sealed")
        plain = _HEAD.pack(math.ceil(now + self._seconds), len(text)) + text
        plain += bytes(-len(plain) % PAD_BYTES)
        nonce = os.urandom(_NONCE_BYTES)
        bound = _bound_to(self._sealing_id, tenant, model)
        sealed = nonce + self._ciphers[self._sealing_id].encrypt(nonce, plain, bound)
        return f"{_VERSION}.{self._sealing_id}.{to_base64url(sealed)}"

    def open(self, sealed: str, *, tenant: str, model: str, now: float) -> str:
        """The thought, whole, or SealBroken."""
        if len(sealed) > MAX_SEALED_CHARACTERS:
            raise SealBroken("malformed")
        beginning = _BEGINNING.match(sealed)
        if beginning is None:
            raise SealBroken("malformed")
        sealing_id = beginning[1]
        cipher = self._ciphers.get(sealing_id)
        if cipher is None:
            raise SealBroken("unknown_key")
        nonce, encrypted = _from_body(sealed[beginning.end() :])
        try:
            plain = cipher.decrypt(nonce, encrypted, _bound_to(sealing_id, tenant, model))
        except InvalidTag:
            raise SealBroken("foreign") from None
        expiry, length = _HEAD.unpack_from(plain)
        if now >= expiry:
            raise SealBroken("expired")
        return plain[_HEAD.size : _HEAD.size + length].decode("utf-8", "surrogatepass")


def _from_body(body: str) -> tuple[bytes, bytes]:
    """Nonce and ciphertext. One body has one spelling: base64's unused bits are zeros."""
    raw = from_base64(body)
    if raw is None or to_base64url(raw) != body:
        raise SealBroken("malformed")
    padded = len(raw) - _NONCE_BYTES - _TAG_BYTES
    if padded <= 0 or padded % PAD_BYTES:
        raise SealBroken("malformed")
    return raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]


def _bound_to(sealing_id: str, tenant: str, model: str) -> bytes:
    """Each part under its length, so that no two sets of parts have the same bytes."""
    parts = [_encoded(part) for part in (_VERSION, sealing_id, tenant, model)]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _check_ids(ids: Sequence[str]) -> None:
    """Keys that share an id cannot be told apart; in practice it is one key, given twice."""
    for number, sealing_id in enumerate(ids, start=1):
        if (first := ids.index(sealing_id) + 1) < number:
            raise ValueError(f"sealing key {number} has the same id as sealing key {first}")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
