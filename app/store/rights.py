"""What the role that is connected lacks of the rights that `grants.py` gives a gateway."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.grants import ADDED_TO, CHANGED, READ

_NEEDED = {
    **dict.fromkeys(CHANGED, ("SELECT", "INSERT", "UPDATE", "DELETE")),
    **dict.fromkeys(ADDED_TO, ("SELECT", "INSERT")),
    **dict.fromkeys(READ, ("SELECT",)),
}


async def missing_rights(connection: AsyncConnection) -> list[str]:
    """As `INSERT api_keys`, of the tables that are there. Raises what the database raises."""
    asked = [(table, right) for table, rights in _NEEDED.items() for right in rights]
    tables, rights = zip(*asked, strict=True)
    rows = await connection.execute(_MISSING, {"tables": list(tables), "rights": list(rights)})
    return [f"{row.right} {row.relation}".strip() for row in rows]


_MISSING = text(
    """
    SELECT wanted.right AS right, wanted.relation AS relation
    FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[])) AS wanted(relation, "right")
    WHERE to_regclass(wanted.relation) IS NOT NULL
        AND NOT has_table_privilege(to_regclass(wanted.relation)::oid, wanted.right)
    UNION ALL
    SELECT 'CREATE TEMPORARY TABLES', ''
    WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
    UNION ALL
    SELECT 'EXECUTE', p.oid::regprocedure::text FROM pg_proc AS p
    WHERE p.proname = 'audit_make_partitions' AND NOT has_function_privilege(p.oid, 'EXECUTE')
    """
)
