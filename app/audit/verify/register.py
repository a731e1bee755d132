"""The register of writers: its own hashes, and what it says of the chains. No I/O."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import orjson

from app.audit.chain import HASH_BYTES, ChainHead
from app.audit.verify.evidence import RegisterRow, Statement
from app.audit.verify.findings import Finding, Problem, Report


def statements_of(rows: Iterable[RegisterRow]) -> dict[str, list[Statement]]:
    """What the register says of each chain, by sequence."""
    found: dict[str, list[Statement]] = {}
    for row in rows:
        entry = _entry(row)
        source = f"row {row.number} of the register"
        heads = [(row.writer, _head(1, entry.get("registration")))]
        witnessed = entry.get("witnessed")
        for writer, value in (witnessed if isinstance(witnessed, dict) else {}).items():
            if isinstance(value, list) and len(value) == 2:
                heads.append((writer, _head(*value)))
        for writer, head in heads:
            if head is not None:
                found.setdefault(writer, []).append(Statement(head, source))
    for statements in found.values():
        statements.sort(key=lambda statement: statement.head.sequence)
    return found


def check_register(
    rows: Iterable[RegisterRow], signed: Mapping[int, bytes], report: Report
) -> None:
    """`signed` is what our keys have signed of it: the hashes of rows by their numbers."""
    there: dict[int, bytes] = {}
    number, previous = 0, None
    for row in rows:
        if row.number > number + 1:
            _tell(report, f"rows {number + 1} to {row.number - 1} of the register are missing")
        elif faults := _faults(row, previous):
            _tell(report, f"row {row.number} of the register: {', '.join(faults)}")
        number, previous = row.number, row.hash
        there[row.number] = row.hash
    for signed_number, signed_hash in sorted(signed.items()):
        if signed_number not in there:
            _tell(report, f"row {signed_number} of the register, which was signed, is missing")
            break
        if there[signed_number] != signed_hash:
            _tell(report, f"row {signed_number} of the register is not the one that was signed")
            break
    report.register_rows = len(there)


def _faults(row: RegisterRow, previous: bytes | None) -> list[str]:
    entry = _entry(row)
    checks = {
        "its hash is not that of its entry": sha256(row.entry).digest() == row.hash,
        "its number is not that of its entry": entry.get("number") == row.number,
        "its writer is not that of its entry": entry.get("writer") == row.writer,
        "it does not follow from the row before": (
            entry.get("previous") == (None if previous is None else previous.hex())
        ),
    }
    return [fault for fault, right in checks.items() if not right]


def _entry(row: RegisterRow) -> dict[str, Any]:
    try:
        entry = orjson.loads(row.entry)
    except orjson.JSONDecodeError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _head(sequence: object, digest: object) -> ChainHead | None:
    if type(sequence) is not int or sequence < 1 or not isinstance(digest, str):
        return None
    try:
        raw = bytes.fromhex(digest)
    except ValueError:
        return None
    return ChainHead(sequence, raw) if len(raw) == HASH_BYTES else None


def _tell(report: Report, what: str) -> None:
    report.findings.add(Finding(Problem.REGISTER, what))
