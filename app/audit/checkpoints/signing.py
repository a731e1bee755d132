"""The keys that checkpoints are signed with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.protocol.key_list import KEY_BYTES, parse_keys

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_DERIVATION = b"audit-signing"  # for no other key that is made from the pepper


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The first signs; `public_keys` are of all, as hexadecimal digits, and so verify what any of
    them has signed."""

    public_key: str
    public_keys: tuple[str, ...]
    _private: Ed25519PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def parse_signing_keys(text: str) -> SigningKeys:
    """Of the setting: keys of 32 bytes in base64, separated by commas. The first one signs.

    Raises ValueError, which never quotes a key.
    """
    keys = parse_keys(text, "signing key")
    for number, key in enumerate(keys, start=1):
        if (first := keys.index(key) + 1) < number:
            raise ValueError(f"signing key {number} is signing key {first} again")
    return _signing_keys(keys)


def derived_signing_keys(pepper: bytes) -> SigningKeys:
    """One key, the same wherever the pepper is, so that no further secret has to be configured."""
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_DERIVATION)
    return _signing_keys([derivation.derive(pepper)])


def parse_public_key(text: str) -> str:
    """In the form in which checkpoints name it. Raises ValueError."""
    try:
        raw = bytes.fromhex(text.strip())
    except ValueError:
        raise ValueError("a public key is written in hexadecimal digits") from None
    if len(raw) != PUBLIC_KEY_BYTES:
        raise ValueError(f"a public key has {2 * PUBLIC_KEY_BYTES} hexadecimal digits")
    return raw.hex()


def is_signed(message: bytes, signature: bytes, public_key: str) -> bool:
    """Whether the owner of that key, in hexadecimal digits, has signed the message."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(signature, message)
    except (InvalidSignature, ValueError):  # ValueError: no key at all
        return False
    return True


def _signing_keys(keys: Sequence[bytes]) -> SigningKeys:
    private = [Ed25519PrivateKey.from_private_bytes(key) for key in keys]
    public = tuple(key.public_key().public_bytes_raw().hex() for key in private)
    return SigningKeys(public[0], public, private[0])
