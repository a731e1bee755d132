"""What the audit log has kept of a request, and everything that it has ever written."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.audit.content.compression import decompress
from app.audit.content.nodes import MessageUnreadable, read_message_payload
from app.audit.exchange import State, read_exchange
from app.audit.spool.disk import RealDisk, SegmentFile
from app.audit.spool.frames import Frame, FrameKind, FrameReader
from tests.support.gateway import Json, RunningGateway


@dataclass(frozen=True)
class Kept:
    parameters: Json
    messages: list[Json]
    answers: dict[str, Json]
    partial: bool


async def kept(gateway: RunningGateway, request_id: str) -> Kept:
    """All of it whole, and as its addresses say."""
    row = await gateway.audited(request_id)
    exchange = await read_exchange(gateway.engine, row)
    assert exchange is not None, "no text is kept"
    assert exchange.parameters is not None
    assert exchange.missing_messages == 0
    said = [exchange.parameters, *exchange.messages, *exchange.answers.values()]
    assert [one.state for one in said] == [State.KEPT] * len(said)
    return Kept(
        exchange.parameters.value,
        [one.value for one in exchange.messages],
        {choice: one.value for choice, one in exchange.answers.items()},
        exchange.partial,
    )


class WitnessDisk(RealDisk):
    """Remembers all that was ever written to a segment: the shipper removes what it has shipped."""

    def __init__(self) -> None:
        self._written: list[bytearray] = []

    def create_segment(self, path: Path, size_bytes: int) -> SegmentFile:
        self._written.append(bytearray())
        return _WitnessFile(super().create_segment(path, size_bytes), self._written[-1])

    def texts(self) -> Iterator[bytes]:
        """Of each frame its payload, and what is compressed in that."""
        for written in self._written:
            yield bytes(written)
        for frame in self.frames():
            yield frame.payload
            if frame.kind == FrameKind.MESSAGE:
                yield _text_in(frame.payload)

    def frames(self) -> Iterator[Frame]:
        for written in self._written:
            yield from FrameReader().feed(bytes(written))


class _WitnessFile:
    def __init__(self, file: SegmentFile, written: bytearray) -> None:
        self._file = file
        self._written = written

    def write(self, data: bytes) -> None:
        self._written += data
        self._file.write(data)

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


async def is_stored(gateway: RunningGateway, disk: WitnessDisk, nonce: str) -> bool:
    """Whether it is anywhere: in the spool, now or ever, or in any table."""
    sought = nonce.encode()
    if any(sought in written for written in disk.texts()):
        return True
    async for stored in _tables(gateway):
        if sought in stored:
            return True
    return False


async def _tables(gateway: RunningGateway) -> Any:
    async with gateway.engine.connect() as connection:
        names = await connection.scalars(
            text(
                "SELECT relname FROM pg_class"
                " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
        )
        for name in names.all():
            for row in await connection.execute(text(f'SELECT * FROM "{name}"')):  # noqa: S608 - ours
                values = row._mapping
                for value in values.values():
                    yield value if isinstance(value, bytes) else str(value).encode()
                if name.startswith("audit_messages") and values["encoding"] != 2:
                    yield decompress(values["encoding"], values["body"])


def _text_in(payload: bytes) -> bytes:
    try:
        return read_message_payload(payload).text() or b""
    except MessageUnreadable:
        return b""
