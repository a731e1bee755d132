"""The chain of one writer's events: each has the hash of all before it and of itself.

    hash = SHA-256(hash before | sequence u64 | kind u8 | at u64 | SHA-256(payload))

Big-endian. Whoever changes, drops or moves an event changes the hash of every later one, and the
signed checkpoints say what those were. Nothing here does I/O.
"""

import struct
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
MAX_SEQUENCE = 2**63 - 1  # of a bigint, where it goes
_NUMBERS = struct.Struct(">QBQ")


class ChainHead(NamedTuple):
    """Where a chain ends: the number of its last event, from 1 on, and the hash up to it."""

    sequence: int
    hash: bytes


GENESIS = ChainHead(0, bytes(HASH_BYTES))


def link(head: ChainHead, kind: int, at: int, payload: bytes) -> ChainHead:
    """The chain with one event more. `at` is in microseconds since the epoch."""
    return link_digest(head, kind, at, sha256(payload).digest())


def link_digest(head: ChainHead, kind: int, at: int, digest: bytes) -> ChainHead:
    """As `link`, for whoever has only the SHA-256 of the payload."""
    sequence = head.sequence + 1
    numbers = _NUMBERS.pack(sequence, kind, at)
    return ChainHead(sequence, sha256(head.hash + numbers + digest).digest())
