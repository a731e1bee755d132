"""What a PostgreSQL says of itself, in three questions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.start import SHIPPER_CONNECTIONS
from app.store.database import POOL_CONNECTIONS

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """`offset_seconds`: how far its clock is ahead of ours. `free_connections`: for whoever is no
    superuser, ours for this question among them."""

    version: str
    major: int
    role: str
    time_zone: str
    is_read_only: bool
    durability: Mapping[str, str]
    max_connections: int
    free_connections: int
    encrypted: bool
    is_local: bool
    now: datetime
    offset_seconds: float
    round_trip_seconds: float
    connections_of_process: int = POOL_CONNECTIONS + SHIPPER_CONNECTIONS


async def server_facts(connection: AsyncConnection, now: Callable[[], float]) -> ServerFacts:
    asked_at = now()
    moment: datetime = await connection.scalar(text("SELECT clock_timestamp()"))
    answered_at = now()
    row = (await connection.execute(_SERVER)).mappings().one()
    limits = (await connection.execute(_CONNECTIONS)).mappings().one()
    return ServerFacts(
        version=row["version"],
        major=int(row["number"]) // 10_000,
        role=row["role"],
        time_zone=row["time_zone"],
        is_read_only=row["standby"] or row["read_only"] == "on",
        durability={name: row[name] for name in DURABILITY},
        max_connections=limits["most"],
        free_connections=max(0, _free(limits)),
        encrypted=row["encrypted"],
        is_local=row["address"] is None or row["loopback"],
        now=moment,
        offset_seconds=moment.timestamp() - (asked_at + answered_at) / 2,
        round_trip_seconds=answered_at - asked_at,
    )


def _free(limits: RowMapping) -> int:
    """By the server's limit, and the role's and the database's own, where they have one."""
    free: int = limits["most"] - limits["reserved"] - limits["used"]
    for name in ("role", "database"):
        if limits[f"{name}_most"] >= 0:
            free = min(free, limits[f"{name}_most"] - limits[f"{name}_used"])
    return free + 1


_SERVER = text(
    """
    SELECT current_setting('server_version') AS version,
        current_setting('server_version_num') AS number,
        current_user::text AS role,
        current_setting('TimeZone') AS time_zone,
        pg_is_in_recovery() AS standby,
        current_setting('transaction_read_only') AS read_only,
        current_setting('fsync') AS fsync,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('full_page_writes') AS full_page_writes,
        inet_server_addr()::text AS address,
        coalesce(inet_server_addr() << '127.0.0.0/8'::inet
            OR inet_server_addr() = '::1'::inet, false) AS loopback,
        coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted
    """
)

# Whoever connects: background workers have no database and count for nothing.
_CONNECTIONS = text(
    """
    SELECT current_setting('max_connections')::int AS most,
        current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
        (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS role_most,
        (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS database_most,
        count(*)::int AS used,
        (count(*) FILTER (WHERE usename = current_user))::int AS role_used,
        (count(*) FILTER (WHERE datname = current_database()))::int AS database_used
    FROM pg_stat_activity WHERE datname IS NOT NULL
    """
)
