"""A log in memory: chains, signed as a gateway signs them."""

import io
import random
from collections.abc import Iterable, Sequence
from hashlib import sha256

import orjson

from app.audit.chain import GENESIS, ChainHead, link
from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.log_reader import Part
from app.audit.projection import columns_of
from app.audit.spool.frames import FrameKind
from app.audit.verify.evidence import RegisterRow, StoredEvent
from app.audit.verify.findings import Report
from app.audit.verify.published import PublishedCheckpoints
from app.audit.verify.verifier import WHOLE, Verifier

KEYS = derived_signing_keys(b"pepper")
WRITER = "ab" * 16
START = 1_700_000_000_000_000


def event(writer: str, head: ChainHead, kind: int, at: int, payload: bytes) -> StoredEvent:
    digest = sha256(payload).digest()
    columns = columns_of(kind, payload)
    return StoredEvent(writer, head.sequence, at, kind, head.hash, digest, payload, columns)


def chain(
    checkpoint_every: Sequence[int], writer: str = WRITER, *, step: int = 1_000
) -> list[StoredEvent]:
    """A registration; for each number so many requests and a checkpoint; the last one closes.
    Between two events there are `step` microseconds."""
    head, at, events = GENESIS, START, list[StoredEvent]()

    def add(kind: FrameKind, payload: bytes) -> None:
        nonlocal head, at
        at += step
        head = link(head, kind, at, payload)
        events.append(event(writer, head, kind, at, payload))

    add(FrameKind.REGISTRATION, orjson.dumps({"writer": writer}))
    for number, requests in enumerate(checkpoint_every, start=1):
        for request in range(requests):
            values = {"request_id": f"req_{number}_{request}", "tenant": "acme", "key_id": "key_1"}
            add(FrameKind.INTENT, orjson.dumps(values))
            add(FrameKind.OUTCOME, orjson.dumps(values | {"outcome": "completed", "status": 200}))
        signed = make_checkpoint(
            KEYS, writer, head, at=at / 1e6, previous=None, register=None,
            closed=number == len(checkpoint_every),
        )  # fmt: skip
        add(FrameKind.CHECKPOINT, signed.payload)
    return events


def second_place(*chains: Iterable[StoredEvent]) -> bytes:
    """With all checkpoints of these chains."""
    lines = [
        each.payload or b"" for events in chains for each in events
        if each.kind == FrameKind.CHECKPOINT
    ]  # fmt: skip
    return b"\n".join(lines)


def part_of(events: Sequence[StoredEvent], part: Part) -> list[StoredEvent]:
    """Of one chain what a verification of that part is given, as `PartReader` reads it."""
    within = [each for each in events if part.has(each.at)]
    if not within:
        return []
    first, last = events.index(within[0]), events.index(within[-1])
    before = [each for each in events[:first] if each.sequence == within[0].sequence - 1]
    behind: list[StoredEvent] = []
    if part.until is not None:
        for each in events[last + 1 :]:
            behind.append(each)
            if each.kind == FrameKind.CHECKPOINT:
                break
    return before + within + behind


def register(*chains: Sequence[StoredEvent]) -> list[RegisterRow]:
    rows: list[RegisterRow] = []
    for number, events in enumerate(chains, start=1):
        entry = orjson.dumps(
            {
                "number": number,
                "writer": events[0].writer,
                "registration": events[0].hash.hex(),
                "previous": rows[-1].hash.hex() if rows else None,
                "witnessed": {},
            }
        )
        digest = sha256(entry).digest()
        rows.append(RegisterRow(number, events[0].writer, entry, digest, events[0].at))
    return rows


def rehashed(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """As an editor makes the hashes and the numbers anew."""
    head, made = GENESIS, list[StoredEvent]()
    for each in events:
        assert each.payload is not None
        head = link(head, each.kind, each.at, each.payload)
        made.append(event(each.writer, head, each.kind, each.at, each.payload))
    return made


def verified(
    events: Sequence[StoredEvent],
    rows: Sequence[RegisterRow],
    *,
    now: float = START / 1e6 + 60,
    published: bytes | None = None,
    part: Part = WHOLE,
) -> Report:
    """`published`: the second place. Of a part give the events of `part_of`."""
    report = Report()
    file = None if published is None else io.BytesIO(published)
    verifier = Verifier(
        KEYS.public_keys,
        register=rows,
        shipped={},
        published=PublishedCheckpoints(file, KEYS.public_keys, report, "the file"),
        report=report,
        now=now,
        part=part,
    )
    for writer in dict.fromkeys(each.writer for each in events):
        of_writer = verifier.chain(writer)
        for each in events:
            if each.writer == writer:
                of_writer.feed(each)
        verifier.chain_ended(of_writer)
    return verifier.finish(rows)


def flipped(data: bytes, random_source: random.Random) -> bytes:
    """With one bit changed."""
    place = random_source.randrange(len(data))
    changed = bytearray(data)
    changed[place] ^= 1 << random_source.randrange(8)
    return bytes(changed)
