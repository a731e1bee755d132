"""Addresses of messages on disk, in a temporary file: of a long log there are more than memory
should hold."""

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import date

from app.audit.verify.evidence import Reference

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE there (tenant TEXT, address BLOB, PRIMARY KEY (tenant, address)) WITHOUT ROWID;
CREATE TABLE wanted (
    tenant TEXT, address BLOB, first_day INTEGER, last_day INTEGER,
    writer TEXT, sequence INTEGER, request_id TEXT,
    PRIMARY KEY (tenant, address)
) WITHOUT ROWID;
CREATE TABLE parents (
    tenant TEXT, address BLOB, child BLOB, stored_on TEXT, PRIMARY KEY (tenant, address)
) WITHOUT ROWID;
"""
_ABSENT = "NOT EXISTS (SELECT 1 FROM there WHERE (tenant, address) = (w.tenant, w.address))"


class AddressBook:
    """Which messages are there, and which are wanted by events and by other messages."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # a file of its own, gone with the connection
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def add(self, tenant: str, address: bytes) -> bool:
        """That it is there. False where that was known."""
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO there VALUES (?, ?)", (_text(tenant), address)
        )
        return cursor.rowcount > 0

    def want(self, references: Iterable[Reference]) -> None:
        self._database.executemany(
            "INSERT INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET first_day = max(first_day, excluded.first_day)",
            (_wanted(each) for each in references),
        )

    def want_parent(self, tenant: str, parent: bytes, child: bytes, stored_on: date) -> None:
        """`child`, which follows it, was stored on that day."""
        self._database.execute(
            "INSERT INTO parents VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET stored_on = max(stored_on, excluded.stored_on)",
            (_text(tenant), parent, child, stored_on.isoformat()),
        )

    def missing(self) -> Iterator[Reference]:
        """What events want and is not there: for the first that wants it, with the first day of the
        last one."""
        for row in self._database.execute(f"SELECT * FROM wanted AS w WHERE {_ABSENT}"):  # noqa: S608 - our own words
            yield Reference(*row)

    def missing_parents(self, oldest: date) -> Iterator[tuple[str, bytes, bytes]]:
        """Tenant, address, and a message that comes after it and was stored after that day."""
        yield from self._database.execute(
            f"SELECT tenant, address, child FROM parents AS w WHERE stored_on > ? AND {_ABSENT}",  # noqa: S608 - our own words
            (oldest.isoformat(),),
        )


def _wanted(each: Reference) -> tuple[object, ...]:
    """As a row."""
    return (
        _text(each.tenant), each.address, each.first_day, each.last_day,
        each.writer, each.sequence, each.request_id,
    )  # fmt: skip


def _text(text: str) -> str:
    """Without lone surrogates, which an edited payload may have, and no database takes."""
    return text.encode("utf-8", "replace").decode()
