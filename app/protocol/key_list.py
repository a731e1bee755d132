"""Keys as a setting holds them: base64, separated by commas."""

import base64
import binascii

KEY_BYTES = 32


def parse_keys(text: str, name: str) -> tuple[bytes, ...]:
    """Keys of KEY_BYTES, in base64 (standard or URL-safe, padded or not), separated by commas.

    `name` is what one is called. Raises ValueError, which never quotes a key.
    """
    keys: list[bytes] = []
    for number, part in enumerate(text.split(","), start=1):
        key = from_base64(part.strip())
        if key is None:
            raise ValueError(f"{name} {number} is not base64")
        if len(key) != KEY_BYTES:
            raise ValueError(f"{name} {number} has {len(key)} bytes instead of {KEY_BYTES}")
        keys.append(key)
    return tuple(keys)


def to_base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64(text: str) -> bytes | None:
    """Of either alphabet, padded or not; None where it is none."""
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        return None
