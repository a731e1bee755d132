"""What a migration may do to a database that the version before still uses.

`expand` adds what that version does not need to know; `contract` takes away what it no longer uses.
Both may wait for a lock only so long that nobody behind them notices.
"""

import re
from collections.abc import Iterable, Sequence

PHASES = ("expand", "contract")
LONGEST_LOCK_SECONDS = 5  # look-ups of keys wait behind it, and give up after 2 s; most allow 1 s

_LOCK_TIMEOUT = re.compile(r"SET LOCAL lock_timeout = '(\d+)s'")
_MADE = re.compile(r"CREATE (?:TABLE|VIEW)(?: IF NOT EXISTS)? \"?(\w+)")
# What takes a lock on a table that others use.
_LOCKING = re.compile(r"ALTER TABLE|CREATE TRIGGER|DROP TABLE|CREATE (?:UNIQUE )?INDEX (?!CONC)")

_TAKES_AWAY = {
    r"DROP (?:TABLE|VIEW|COLUMN|FUNCTION|TYPE|CONSTRAINT|SCHEMA)": "takes away what is used",
    r"DROP INDEX (?!CONCURRENTLY)": "drops an index that is used",
    r"\bRENAME\b": "renames what is used by its name",
    r"ALTER COLUMN \w+ (?:SET DATA )?TYPE": "changes a type, and writes the table anew",
    r"SET NOT NULL": "refuses rows that the version before writes",
    r"DROP DEFAULT": "refuses rows that the version before writes",
    r"ADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL": "refuses rows that the version before writes",
    r"\bTRUNCATE\b": "takes away what is used",
    r"REVOKE .* ON (?!FUNCTION)": "takes rights that are used",
}
_BLOCKS = {
    r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)": "stops writers: build it CONCURRENTLY",
    r"ADD (?:CONSTRAINT \w+ )?(?:CHECK|FOREIGN KEY)(?!.*NOT VALID)": (
        "reads the whole table under its lock: add it NOT VALID, validate it in a later revision"
    ),
    r"ADD (?:CONSTRAINT \w+ )?(?:UNIQUE|PRIMARY KEY)(?!.*USING INDEX)": (
        "builds an index under its lock: build it CONCURRENTLY, add it USING INDEX"
    ),
    r"^(?:UPDATE|DELETE FROM) (?!alembic_version|schema_compatibility)": (
        "changes rows under locks that it keeps: backfill in batches, outside of a migration"
    ),
}


def complaints(phase: str, statements: Iterable[str]) -> list[str]:
    """Of one migration's statements, in their order; empty where they keep the rules."""
    said = [" ".join(statement.split()) for statement in statements]
    made = {name for statement in said for name in _MADE.findall(statement)}
    used = [statement for statement in said if not _is_about(made, statement)]
    rules = _BLOCKS if phase == "contract" else _BLOCKS | _TAKES_AWAY
    return _of_locks(used) + [
        f"{statement}: {why}"
        for statement in used
        for pattern, why in rules.items()
        if re.search(pattern, statement)
    ]


def _is_about(made: set[str], statement: str) -> bool:
    """A table that the same migration makes: nobody uses it yet."""
    found = re.search(r"(?:TABLE|INTO|UPDATE| ON)(?: ONLY)? \"?(\w+)", statement)
    return found is not None and found.group(1) in made


def _of_locks(statements: Sequence[str]) -> list[str]:
    seconds: int | None = None
    for statement in statements:
        timeout = _LOCK_TIMEOUT.search(statement)
        if timeout is not None:
            seconds = int(timeout.group(1))
        elif _LOCKING.search(statement) and (seconds is None or seconds > LONGEST_LOCK_SECONDS):
            return [f"{statement}: waits for its lock longer than {LONGEST_LOCK_SECONDS} s"]
    return []
