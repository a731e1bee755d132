"""Statements, and what is then to be found: the problem, the event and the request."""

from app.audit.verify.findings import Problem

EDITS: dict[str, tuple[str, Problem, int, str | None]] = {
    "payload": (
        "UPDATE audit_events SET payload = convert_to(replace(convert_from(payload, 'UTF8'), "
        "'completed', 'cancelled'), 'UTF8') WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "payload that is no JSON any more": (
        r"UPDATE audit_events SET payload = '\xff00' WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "payload emptied": (
        "UPDATE audit_events SET payload = '' WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "kind": (
        "UPDATE audit_events SET kind = 1 WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "kind that there is none of": (
        "UPDATE audit_events SET kind = 999 WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "time": (
        "UPDATE audit_events SET recorded_at = recorded_at + interval '1 microsecond' "
        "WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "time, into another partition": (
        "UPDATE audit_events SET recorded_at = recorded_at + interval '1 day' "
        "WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        3,
        "req_0",
    ),
    "hash": (
        "UPDATE audit_events SET hash = sha256(hash) WHERE writer = :writer AND sequence = 3",
        Problem.HASH_CHANGED,
        3,
        "req_0",
    ),
    "hash cut": (
        "UPDATE audit_events SET hash = substr(hash, 1, 31) "
        "WHERE writer = :writer AND sequence = 3",
        Problem.HASH_CHANGED,
        3,
        "req_0",
    ),
    "column": (
        "UPDATE audit_events SET key_id = 'key_innocent' WHERE writer = :writer AND sequence = 3",
        Problem.COLUMN_CHANGED,
        3,
        "req_0",
    ),
    "column to null": (
        "UPDATE audit_events SET tenant = NULL WHERE writer = :writer AND sequence = 3",
        Problem.COLUMN_CHANGED,
        3,
        "req_0",
    ),
    "column from null": (
        "UPDATE audit_events SET error_code = 'none' WHERE writer = :writer AND sequence = 3",
        Problem.COLUMN_CHANGED,
        3,
        "req_0",
    ),
    "charge": (
        "UPDATE audit_events SET charged_tokens = 0 WHERE writer = :writer AND sequence = 3",
        Problem.COLUMN_CHANGED,
        3,
        "req_0",
    ),
    "request id, which hides it from a search": (
        "UPDATE audit_events SET request_id = NULL WHERE writer = :writer AND sequence = 3",
        Problem.COLUMN_CHANGED,
        3,
        "req_0",
    ),
    "deleted": (
        "DELETE FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.MISSING,
        3,
        None,
    ),
    "several deleted": (
        "DELETE FROM audit_events WHERE writer = :writer AND sequence BETWEEN 3 AND 7",
        Problem.MISSING,
        3,
        None,
    ),
    "the beginning deleted": (
        "DELETE FROM audit_events WHERE writer = :writer AND sequence <= 3",
        Problem.MISSING,
        1,
        None,
    ),
    "moved to another chain": (
        "UPDATE audit_events SET writer = :other, sequence = 900 "
        "WHERE writer = :writer AND sequence = 3",
        Problem.MISSING,
        3,
        None,
    ),
    "number": (
        "UPDATE audit_events SET sequence = 900 WHERE writer = :writer AND sequence = 3",
        Problem.MISSING,
        3,
        None,
    ),
    "a copy inserted": (
        "INSERT INTO audit_events SELECT recorded_at + interval '1 day', writer, sequence, kind, "
        "hash, payload FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.INSERTED,
        3,
        "req_0",
    ),
    "a copy inserted before": (
        "INSERT INTO audit_events SELECT recorded_at - interval '1 day', writer, sequence, kind, "
        "hash, payload FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.INSERTED,
        3,
        "req_0",
    ),
    "a copy behind the end": (
        "INSERT INTO audit_events SELECT recorded_at, writer, 12, kind, hash, payload "
        "FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.CHANGED,
        12,
        "req_0",
    ),
    "a copy at number 0": (
        "INSERT INTO audit_events SELECT recorded_at, writer, 0, kind, hash, payload "
        "FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.INSERTED,
        0,
        "req_0",
    ),
    "a copy at number -1": (
        "INSERT INTO audit_events SELECT recorded_at, writer, -1, kind, hash, payload "
        "FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.INSERTED,
        -1,
        "req_0",
    ),
    "a copy at the lowest number": (
        "INSERT INTO audit_events SELECT recorded_at, writer, "
        "-9223372036854775808, kind, hash, payload "
        "FROM audit_events WHERE writer = :writer AND sequence = 3",
        Problem.INSERTED,
        -(2**63),
        "req_0",
    ),
}
