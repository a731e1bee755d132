"""A message by its address, which commits to its body and to all messages before it.

    digest  = SHA-256(body)
    salt    = HMAC-SHA-256(key of the tenant, parent | digest)
    address = SHA-256(salt | parent | digest)

The salt follows from the message, so whichever process of ours meets it again comes to the same
address: it is stored once. Without the tenant's key nobody can tell whether a guessed message is
behind an address; with the salt, which is stored beside the body, anybody can verify it. Once both
are deleted, the address says nothing of what it was.
"""

import hmac
import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from app.audit.content.compression import BodyUnreadable, Encoding, compress, decompress

ADDRESS_BYTES = 32
ROOT = bytes(ADDRESS_BYTES)  # the parent of a first message, and of an envelope

# Each is two HMACs, of some microseconds and 500 bytes: for the tenants of the hour.
MAX_CACHED_TENANTS = 1_024
_KEY_LABEL = b"audit-content:"

PAYLOAD_VERSION = 1
_HEAD = struct.Struct("<BBH")  # version, encoding, bytes of the tenant's name
_ADDRESSES = struct.Struct("32s32s32s")  # address, parent, salt


class MessageUnreadable(ValueError):
    """Not the payload of a message, though its checksum is right: of a defect or a later format."""


class Node(NamedTuple):
    """A message: `body` is JSON, the rest has 32 bytes each."""

    address: bytes
    parent: bytes
    salt: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the database has it: `body` is in its `encoding`. Of an erased one, body and
    salt are empty."""

    tenant: str
    address: bytes
    parent: bytes
    salt: bytes
    encoding: int
    body: bytes

    @property
    def erased(self) -> bool:
        return self.encoding == Encoding.ERASED

    def text(self) -> bytes | None:
        """The JSON; None if it was erased. Raises BodyUnreadable."""
        return None if self.erased else decompress(self.encoding, self.body)

    @property
    def intact(self) -> bool:
        """Whether the address is that of what is here. An erased one's cannot be checked: False."""
        try:
            text = self.text()
        except BodyUnreadable:
            return False
        return text is not None and check_address(self.salt, self.parent, text, self.address)


class TenantAddresses:
    """Gives messages their addresses. For any thread."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._keyed: dict[str, hmac.HMAC] = {}  # that have been given the tenant's key

    def node(self, tenant: str, parent: bytes, body: bytes) -> Node:
        behind = parent + sha256(body).digest()
        # Not `hmac.digest`: it takes three times as long, and lets go of the interpreter, so that a
        # busy loop may wait for the spool's thread at every message.
        keyed = self._of(tenant).copy()
        keyed.update(behind)
        salt = keyed.digest()
        return Node(sha256(salt + behind).digest(), parent, salt, body)

    def _of(self, tenant: str) -> hmac.HMAC:
        keyed = self._keyed.get(tenant)
        if keyed is None:
            key = hmac.digest(self._pepper, _KEY_LABEL + tenant.encode(), "sha256")
            if len(self._keyed) >= MAX_CACHED_TENANTS:
                self._keyed.clear()
            self._keyed[tenant] = keyed = hmac.new(key, digestmod="sha256")
        return keyed


def check_address(salt: bytes, parent: bytes, body: bytes, address: bytes) -> bool:
    """Whether the address is that of this message. Needs no secret."""
    return sha256(salt + parent + sha256(body).digest()).digest() == address


def message_payload(node: Node, tenant: str) -> bytes:
    """Of a frame MESSAGE: the head, the tenant's name, address, parent, salt, and the body."""
    name = tenant.encode()
    encoding, body = compress(node.body)
    head = _HEAD.pack(PAYLOAD_VERSION, encoding, len(name))
    return b"".join((head, name, node.address, node.parent, node.salt, body))


def read_message_payload(payload: bytes) -> StoredMessage:
    """The body is left as it is encoded. Raises MessageUnreadable."""
    try:
        version, encoding, name_bytes = _HEAD.unpack_from(payload)
        if version != PAYLOAD_VERSION:
            raise MessageUnreadable(f"version {version}")
        start = _HEAD.size + name_bytes
        tenant = payload[_HEAD.size : start].decode()
        address, parent, salt = _ADDRESSES.unpack_from(payload, start)
    except (struct.error, UnicodeDecodeError) as error:
        raise MessageUnreadable(str(error)) from error
    body = payload[start + _ADDRESSES.size :]
    return StoredMessage(tenant, address, parent, salt, encoding, body)
