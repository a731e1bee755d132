"""Records that the database can never take: lines of JSON in a file beside the spool.

They stay there, whatever becomes of the spool, until an operator has dealt with them: a directory
that is taken over hands its file on. One line a record, and one alone, however often it is set
aside: it is known by its place in the spool.
"""

import os
import threading
from pathlib import Path
from typing import Any

import orjson

from app.audit.spool.disk import Disk
from app.audit.spool.spooled_record import SpooledRecord

SET_ASIDE_NAME = "set-aside.jsonl"
_FILE_MODE = 0o600
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

Place = tuple[Any, ...]


class SetAside:
    """One directory's file. Everything blocks and raises OSError, with the record then not known
    to be kept; to be called in a thread."""

    def __init__(self, directory: Path, writer: str, disk: Disk) -> None:
        self.path = directory / SET_ASIDE_NAME
        self._writer = writer
        self._disk = disk
        self._places: set[Place | None] | None = None  # of what is in the file; None: not known
        self._lock = threading.Lock()

    def keep(self, spooled: SpooledRecord, reason: str) -> None:
        """Durable on return."""
        with self._lock:
            self._append([orjson.dumps(_line(self._writer, spooled, reason))])

    def take_over(self, directory: Path) -> None:
        """What the file in that directory holds; it is gone then."""
        source = directory / SET_ASIDE_NAME
        try:
            lines = source.read_bytes().splitlines()
        except FileNotFoundError:
            return
        with self._lock:
            self._append(lines)
        source.unlink()

    def _append(self, lines: list[bytes]) -> None:
        places, self._places = self._places, None  # not known any more, should this fail
        with os.fdopen(os.open(self.path, _OPEN, _FILE_MODE), "r+b") as file:
            if places is None:
                kept = file.read()
                whole = kept.rfind(b"\n") + 1  # behind it, what a crash has cut: it comes again
                file.truncate(whole)
                places = {_place(line) for line in kept[:whole].splitlines()}
            file.seek(0, os.SEEK_END)
            for line in lines:
                if (place := _place(line)) not in places:
                    file.write(line + b"\n")
                    places.add(place)
            file.flush()
            os.fsync(file.fileno())
        self._disk.sync_directory(self.path.parent)
        self._places = places


def _line(writer: str, spooled: SpooledRecord, reason: str) -> dict[str, Any]:
    found = spooled.found
    line = {
        "writer": writer,
        "segment": found.start.segment,
        "offset": found.start.offset,
        "kind": found.kind,
        "at": found.at,
        "request_id": spooled.request_id,
        "reason": reason,
    }
    try:
        return line | {"payload": found.payload.decode()}
    except UnicodeDecodeError:
        return line | {"payload_hex": found.payload.hex()}


def _place(line: bytes) -> Place | None:
    """None for what is not a line of ours."""
    try:
        values = orjson.loads(line)
        return values["writer"], values["segment"], values["offset"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
