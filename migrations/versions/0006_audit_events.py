"""The audit log as a chain of events for each writer, with the messages that they refer to.

`audit_events` and `audit_messages` have a partition for each UTC day, which `audit_make_partitions`
makes: whoever may call it need not own the tables. `audit_records` is a view from now on, a row a
request, under the names that its columns had. The table of that name is evidence and stays, as
`audit_records_before_0006`, which nothing reads.

Safe on a live database: what is there is renamed, or gets a column with a constant default, and no
row is written. Locks are given up as in 0003, those that look-ups of keys wait behind soonest and
last. A replica of an older version keeps its records in its spool from then on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
AUDIT_LOCK_SECONDS = 5
KEYS_LOCK_SECONDS = 1

OLD_INDEXES = (
    "pkey",
    "received_at_idx",
    "key_id_received_at_idx",
    "key_id_settled_at_idx",
    "tenant_settled_at_idx",
)

ENDED = "WHERE kind = 2"
SETTLED = "INCLUDE (charged_tokens) WHERE settled_at IS NOT NULL"
EVENT_INDEXES = {
    "request_id_idx": "(request_id) WHERE request_id IS NOT NULL",
    "recorded_at_request_id_idx": f"(recorded_at, request_id) {ENDED}",
    "begun_idx": "(recorded_at, request_id) WHERE kind = 1",  # for those that have not ended
    "kind_recorded_at_idx": "(kind, recorded_at) WHERE kind > 2",  # the few that are no request's
    "key_id_recorded_at_idx": f"(key_id, recorded_at) {ENDED}",
    "tenant_recorded_at_idx": f"(tenant, recorded_at) {ENDED}",
    "conversation_recorded_at_idx": "(conversation, recorded_at) WHERE conversation IS NOT NULL",
    "key_id_settled_at_idx": f"(key_id, settled_at) {SETTLED}",
    "tenant_settled_at_idx": f"(tenant, settled_at) {SETTLED}",
    "recorded_at_idx": "USING brin (recorded_at)",
}

# Its caller may own nothing, so it says where everything is and lets no search path decide. The
# lock keeps two that make the same partition from failing. A partition is attached, and not made as
# one: that would wait for all who read the log, and all who write to it behind that. A table of the
# name that is none was detached by a removal that was cut short, and has old records.
MAKE_PARTITIONS = """
CREATE FUNCTION audit_make_partitions(first date, last date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    place CONSTANT text := {schema};
    day date;
    parent text;
    name text;
BEGIN
    IF last - first > 366 THEN
        RAISE EXCEPTION 'partitions for more than a year at a time' USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock({lock});
    FOR day IN SELECT first + n FROM generate_series(0, last - first) AS n LOOP
        FOREACH parent IN ARRAY ARRAY['audit_events', 'audit_messages'] LOOP
            name := parent || to_char(day, '_YYYYMMDD');
            PERFORM FROM pg_inherits JOIN pg_class ON oid = inhrelid
            WHERE relname = name AND inhparent = format('%I.%I', place, parent)::regclass;
            CONTINUE WHEN FOUND;
            PERFORM FROM pg_class
            WHERE relname = name AND relnamespace = quote_ident(place)::regnamespace;
            IF FOUND THEN
                RAISE EXCEPTION '% is no partition of %', name, parent
                USING ERRCODE = '55000', HINT = 'A removal of old records has not been finished.';
            END IF;
            EXECUTE format(
                'CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING ALL)', place, name, parent
            );
            EXECUTE format(
                'ALTER TABLE %1$I.%3$I ATTACH PARTITION %1$I.%2$I'
                ' FOR VALUES FROM (%4$L) TO (%5$L)',
                place, name, parent, day, day + 1
            );
        END LOOP;
    END LOOP;
END $$
"""
PARTITIONS_LOCK = 0x717779_61756474  # of 64 bits, shared with nobody

# What is not JSON has no request_id either, and would fail the whole query.
REQUESTS = """
CREATE VIEW audit_records AS
SELECT
    i.request_id, i.received_at, coalesce(asked.route, '') AS route, i.key_id, i.tenant, i.model,
    asked.stream, coalesce(asked.body_bytes, 0) AS body_bytes,
    coalesce(asked.parameters, '{}') AS parameters,
    asked.client_ip, asked.user_agent, asked.client_request_id,
    o.outcome, o.status, o.error_code, ended.finish_reason, ended.worker, ended.attempts,
    (ended.usage->>'prompt_tokens')::bigint AS prompt_tokens,
    (ended.usage->>'completion_tokens')::bigint AS completion_tokens,
    (ended.usage->>'reasoning_tokens')::bigint AS reasoning_tokens,
    (ended.usage->>'cached_tokens')::bigint AS cached_tokens,
    (ended.usage->>'exact')::boolean AS usage_exact,
    ended.time_to_first_token_seconds, ended.duration_seconds,
    coalesce(ended.findings, '{}') AS findings,
    o.charged_tokens, o.settled_at, i.recorded_at
FROM audit_events AS i
CROSS JOIN LATERAL jsonb_to_record(convert_from(i.payload, 'UTF8')::jsonb) AS asked (
    route text, stream boolean, body_bytes bigint, parameters jsonb, client_ip text,
    user_agent text, client_request_id text
)
LEFT JOIN audit_events AS o ON o.kind = 2 AND o.request_id = i.request_id
LEFT JOIN LATERAL jsonb_to_record(convert_from(o.payload, 'UTF8')::jsonb) AS ended (
    finish_reason text, worker text, attempts integer, usage jsonb,
    time_to_first_token_seconds float8, duration_seconds float8, findings jsonb
) ON true
WHERE i.kind = 1 AND i.request_id IS NOT NULL
"""

AHEAD = """
SELECT audit_make_partitions(
    (now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 7
)
"""


def upgrade() -> None:
    _create_events()
    _create_messages()
    op.create_table(
        "audit_register",
        sa.Column("number", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("writer", sa.String(32), nullable=False),
        sa.Column("registered_at", MOMENT, nullable=False),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="audit_register_pkey"),
        sa.UniqueConstraint("writer", name="audit_register_writer_key"),
    )
    _create_make_partitions()
    op.execute(AHEAD)
    _wait_for_locks(AUDIT_LOCK_SECONDS)
    op.add_column(
        "audit_spool_offsets",
        sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.add_column("audit_spool_offsets", sa.Column("hash", sa.LargeBinary))
    _rename_records("audit_records", "audit_records_before_0006")
    op.execute(REQUESTS)
    # Last, so that keys are never locked while something else is waited for.
    _wait_for_locks(KEYS_LOCK_SECONDS)
    op.add_column(
        "tenants",
        sa.Column("audit_on_failure", sa.String(16), nullable=False, server_default="closed"),
    )


def downgrade() -> None:
    """Only of a log that holds no event: an older version could not read them."""
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM audit_events)")):
        raise RuntimeError("audit_events holds records: export them and remove them first")
    _wait_for_locks(AUDIT_LOCK_SECONDS)
    op.execute("DROP VIEW audit_records")
    _rename_records("audit_records_before_0006", "audit_records")
    op.drop_column("audit_spool_offsets", "hash")
    op.drop_column("audit_spool_offsets", "sequence")
    op.execute("DROP FUNCTION audit_make_partitions")
    for table in ("audit_register", "audit_messages", "audit_events"):
        op.drop_table(table)
    _wait_for_locks(KEYS_LOCK_SECONDS)
    op.drop_column("tenants", "audit_on_failure")


def _create_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("writer", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("request_id", sa.String(40)),
        sa.Column("received_at", MOMENT),
        sa.Column("key_id", sa.String(32)),
        sa.Column("tenant", sa.String(128)),
        sa.Column("model", sa.String(256)),
        sa.Column("conversation", sa.String(64)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("status", sa.Integer),
        sa.Column("error_code", sa.String(64)),
        sa.Column("charged_tokens", sa.BigInteger),
        sa.Column("settled_at", MOMENT),
        sa.PrimaryKeyConstraint("writer", "sequence", "recorded_at", name="audit_events_pkey"),
        postgresql_partition_by="RANGE (recorded_at)",
    )
    for name, definition in EVENT_INDEXES.items():
        op.execute(f"CREATE INDEX audit_events_{name} ON audit_events {definition}")


def _create_messages() -> None:
    op.create_table(
        "audit_messages",
        sa.Column("stored_on", sa.Date, nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("address", sa.LargeBinary, nullable=False),
        sa.Column("parent", sa.LargeBinary, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("encoding", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "address", "stored_on", name="audit_messages_pkey"),
        postgresql_partition_by="RANGE (stored_on)",
    )
    # It is compressed already, or too short to be.
    op.execute("ALTER TABLE audit_messages ALTER COLUMN body SET STORAGE EXTERNAL")


def _create_make_partitions() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_literal(current_schema())"))
    definition = MAKE_PARTITIONS.format(schema=schema, lock=PARTITIONS_LOCK)
    op.get_bind().exec_driver_sql(definition)
    op.execute("REVOKE ALL ON FUNCTION audit_make_partitions FROM PUBLIC")


def _rename_records(before: str, after: str) -> None:
    op.rename_table(before, after)
    for name in OLD_INDEXES:
        op.execute(f"ALTER INDEX {before}_{name} RENAME TO {after}_{name}")


def _wait_for_locks(seconds: int) -> None:
    op.execute(f"SET LOCAL lock_timeout = '{seconds}s'")
