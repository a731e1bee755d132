"""The secrets of API keys: how they are minted, and the digest under which they are stored.

    sk-qw-  43 characters of base62: 256 random bits   6 characters of base62: CRC-32 of the rest

The check sum is public and proves nothing; it spares the database a question for every string
that somebody typed, cut off or made up.
"""

import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

from app.known_secrets import KNOWN, holds

PREFIX = "sk-qw-"
SECRET_BITS = 256
_ALPHABET = string.digits + string.ascii_letters
_RANDOM_CHARACTERS = 43  # 62^43 > 2^256
_CHECK_CHARACTERS = 6  # 62^6 > 2^32
_FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_CHARACTERS + _CHECK_CHARACTERS}}}", re.ASCII)
ANY_SECRET = re.compile(rf"{PREFIX}[0-9A-Za-z]{{8,}}", re.ASCII)
_PREFIX_BYTES = PREFIX.encode()
_ANY_SECRET_BYTES = re.compile(ANY_SECRET.pattern.encode())
_SECRET_CHARACTERS = len(PREFIX) + _RANDOM_CHARACTERS + _CHECK_CHARACTERS
_HINT_CHARACTERS = 4  # of 49: tells a person's secrets apart, and tells a thief nothing

_ID_CHARACTERS = 20  # 119 bits: ids never collide and cannot be guessed


@dataclass(frozen=True, slots=True)
class MintedSecret:
    """A fresh secret. Only the digest (32 bytes) and the hint are ever stored."""

    secret: str = field(repr=False)
    digest: bytes = field(repr=False)
    hint: str


def mint_secret(pepper: bytes) -> MintedSecret:
    body = PREFIX + _base62(secrets.randbits(SECRET_BITS), _RANDOM_CHARACTERS)
    secret = body + _check(body)
    hint = f"{PREFIX}...{secret[-_HINT_CHARACTERS:]}"
    return MintedSecret(secret, digest_of(secret, pepper), hint)


def digest_of(secret: str, pepper: bytes) -> bytes:
    """HMAC-SHA-256 of the whole secret: 32 bytes. Without the pepper a stolen table is useless."""
    return hmac.digest(pepper, secret.encode(), "sha256")


def is_well_formed(secret: str) -> bool:
    """Whether we can have minted this: its form and its check sum."""
    if _FORM.fullmatch(secret) is None:
        return False
    return secret[-_CHECK_CHARACTERS:] == _check(secret[:-_CHECK_CHARACTERS])


def scrub(text: str) -> str:
    """The same text without secrets of ours, API keys and those that this process was given: one
    pasted into the wrong field is not kept."""
    text = KNOWN.masked(text)
    return ANY_SECRET.sub(f"{PREFIX}***", text) if PREFIX in text else text


def scrub_to(text: str, characters: int) -> str:
    """So many characters of `scrub(text)`: half a secret would not be known any more, so it is
    masked before the text is cut. Of a long text only the beginning is looked at."""
    longest = max(KNOWN.longest_characters, _SECRET_CHARACTERS)
    # Were all of it secrets, their masks would fill what is kept, before what may be half of one.
    return scrub(text[: (characters + 1) * longest])[:characters]


def scrub_bytes(text: bytes) -> bytes:
    """The same of a text as UTF-8."""
    text = KNOWN.masked_bytes(text)
    if not holds(text, _PREFIX_BYTES):
        return text
    return _ANY_SECRET_BYTES.sub(_PREFIX_BYTES + b"***", text)


def mint_key_id() -> str:
    """`key_` and 20 characters. No secret: it stands in logs, lists and audit records."""
    return "key_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARACTERS))


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_CHARACTERS)


def _base62(number: int, characters: int) -> str:
    digits = []
    for _ in range(characters):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
