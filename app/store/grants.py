"""The rights of the role that a gateway runs as: it may add to the audit log, and change nothing
there. Another role owns the tables, and migrates them."""

from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import InvalidRequest
from app.store.transaction import in_transaction

CHANGED = ("api_keys", "api_key_secrets", "plans", "tenants", "audit_spool_offsets")
ADDED_TO = ("audit_events", "audit_messages", "audit_register")
READ = ("alembic_version", "schema_compatibility", "audit_records", "audit_records_before_0006")

_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's
_quote = _dialect.identifier_preparer.quote_identifier


def grant_sql(role: str, *, database: str, schema: str) -> list[str]:
    """Statements that give the role what a gateway needs in that database, and take from it what
    would let it change the audit log. May be run again."""
    who, place = _quote(role), _quote(schema)

    def tables(names: tuple[str, ...]) -> str:
        return ", ".join(f"{place}.{name}" for name in names)

    return [
        f"REVOKE ALL ON {tables(ADDED_TO + READ)} FROM {who}",
        f"GRANT TEMPORARY ON DATABASE {_quote(database)} TO {who}",
        f"GRANT USAGE ON SCHEMA {place} TO {who}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables(CHANGED)} TO {who}",
        f"GRANT SELECT, INSERT ON {tables(ADDED_TO)} TO {who}",
        f"GRANT SELECT ON {tables(READ)} TO {who}",
        f"GRANT EXECUTE ON FUNCTION {place}.audit_make_partitions(date, date) TO {who}",
    ]


async def grant(engine: AsyncEngine, role: str) -> None:
    """As the owner of the tables. Raises InvalidRequest for a role that is not there, or that could
    change the log whatever it is granted here, and changes nothing then; DatabaseUnavailable, also
    where the database refuses."""

    async def step(connection: AsyncConnection) -> None:
        await _check_role(connection, role)
        where = (await connection.execute(_WHERE)).one()
        for partition in await connection.scalars(_PARTITIONS):
            await connection.exec_driver_sql(f"REVOKE ALL ON {partition} FROM {_quote(role)}")
        for statement in grant_sql(role, database=where.database, schema=where.schema):
            await connection.exec_driver_sql(statement)
        await _check_rights(connection, role)

    await in_transaction(engine, step)


_WHERE = text("SELECT current_database() AS database, current_schema() AS schema")
_OWNER = text("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'audit_events'::regclass")
_OWNS = text(
    "SELECT pg_has_role(oid, CAST(:owner AS name), 'MEMBER') FROM pg_roles WHERE rolname = :role"
)


_PARTITIONS = text(
    "SELECT inhrelid::regclass::text FROM pg_inherits "
    "WHERE inhparent IN ('audit_events'::regclass, 'audit_messages'::regclass)"
)

# By a role that it is a member of, by PUBLIC, or by what the owner's new tables are granted.
_STILL = text(
    """
    SELECT relation FROM (
        SELECT unnest(CAST(:tables AS text[])) AS relation
        UNION ALL SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent IN ('audit_events'::regclass, 'audit_messages'::regclass)
    ) AS log
    WHERE has_table_privilege(:role, relation, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
        OR has_any_column_privilege(:role, relation, 'UPDATE')
    UNION ALL
    SELECT 'new tables' FROM pg_default_acl AS d CROSS JOIN aclexplode(d.defaclacl) AS a
    WHERE d.defaclobjtype = 'r' AND pg_get_userbyid(d.defaclrole) = :owner
        AND a.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
        AND CASE a.grantee WHEN 0 THEN true ELSE pg_has_role(:role, a.grantee, 'MEMBER') END
    LIMIT 1
    """
)


async def _check_role(connection: AsyncConnection, role: str) -> None:
    owner = await connection.scalar(_OWNER)
    # True for a superuser, too.
    owns = await connection.scalar(_OWNS, {"owner": owner, "role": role})
    if owns is None:
        raise InvalidRequest(f"There is no role {role!r} in the database.", param="role")
    if owns:
        raise InvalidRequest(
            f"The role {role!r} owns the audit log, or has the rights of its owner {owner!r}: no "
            "grant can keep it from changing the log.",
            param="role",
        )


async def changeable(connection: AsyncConnection, role: str) -> str | None:
    """A table of the audit log that the role may change, by what it is (the owner, a
    superuser), or by whatever PUBLIC, another role or the owner's default privileges give it."""
    owner = await connection.scalar(_OWNER)
    asked = {"tables": list(ADDED_TO), "role": role, "owner": owner}
    relation: str | None = await connection.scalar(_STILL, asked)
    return relation


async def _check_rights(connection: AsyncConnection, role: str) -> None:
    relation = await changeable(connection, role)
    if relation is not None:
        owner = await connection.scalar(_OWNER)
        raise InvalidRequest(
            f"The role {role!r} may change {relation} by rights that others have given it: by "
            f"PUBLIC, by a role that it is a member of, or by default privileges of {owner!r}.",
            param="role",
        )
