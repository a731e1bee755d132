"""The tables, as SQLAlchemy knows them. Migrations in `migrations/` make them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
)

# One row: the oldest revision of migrations/versions whose code this schema serves.
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("serves_code_from", String(32), primary_key=True),
)

plans = Table(
    "plans",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("policy", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# Those that have limits of their own: a tenant exists by its keys, with a row here or without.
tenants = Table(
    "tenants",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("limits", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # What becomes of its requests while they cannot be recorded: `closed` or `open_metadata`.
    Column("audit_on_failure", String(16), nullable=False, server_default="closed"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),  # key_...; shown in logs, no secret
    Column("tenant", String(128), nullable=False, index=True),
    Column("name", String(256), nullable=False),
    Column("enabled", Boolean, nullable=False, server_default="true"),
    Column("policy", JSONB, nullable=False, server_default="{}"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    # What the key's own policy leaves open.
    Column("plan", String(64), ForeignKey("plans.name", ondelete="RESTRICT"), index=True),
)

# A key has one secret, and two while a rotation's grace period runs.
api_key_secrets = Table(
    "api_key_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # HMAC-SHA-256 of the secret
    Column(
        "key_id",
        String(32),
        ForeignKey("api_keys.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("hint", String(24), nullable=False),  # sk-qw-...wxyz, to tell secrets apart
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True)),
)

# What each writer (a process, or one that recovered what it left) has recorded, a chain of events.
# A partition for each UTC day. What follows `payload` is projected from it by
# `app.audit.projection`, for searches, and is null where the event has no such thing.
audit_events = Table(
    "audit_events",
    metadata,
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("writer", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),  # in the writer's chain, from 1 on
    Column("kind", SmallInteger, nullable=False),  # a FrameKind
    Column("hash", LargeBinary, nullable=False),  # of the chain up to and with this event
    Column("payload", LargeBinary, nullable=False),
    Column("request_id", String(40)),
    Column("received_at", DateTime(timezone=True)),
    Column("key_id", String(32)),
    Column("tenant", String(128)),
    Column("model", String(256)),
    Column("conversation", String(64)),  # the address of its first user message, in hexadecimal
    Column("outcome", String(16)),
    Column("status", Integer),
    Column("error_code", String(64)),
    # What was taken from the budgets, and when: null where nothing was.
    Column("charged_tokens", BigInteger),
    Column("settled_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("writer", "sequence", "recorded_at"),
    Index(
        "audit_events_request_id_idx",
        "request_id",
        postgresql_where=text("request_id IS NOT NULL"),
    ),
    *(
        Index(f"audit_events_{'_'.join(columns)}_idx", *columns, postgresql_where=text("kind = 2"))
        for columns in (
            ("recorded_at", "request_id"),
            ("key_id", "recorded_at"),
            ("tenant", "recorded_at"),
        )
    ),
    Index("audit_events_begun_idx", "recorded_at", "request_id", postgresql_where=text("kind = 1")),
    Index(
        "audit_events_kind_recorded_at_idx",
        "kind",
        "recorded_at",
        postgresql_where=text("kind > 2"),
    ),
    Index(
        "audit_events_conversation_recorded_at_idx",
        "conversation",
        "recorded_at",
        postgresql_where=text("conversation IS NOT NULL"),
    ),
    # For sums of a day or a month, from the index alone.
    *(
        Index(
            f"audit_events_{subject}_settled_at_idx",
            subject,
            "settled_at",
            postgresql_include=["charged_tokens"],
            postgresql_where=text("settled_at IS NOT NULL"),
        )
        for subject in ("key_id", "tenant")
    ),
    Index("audit_events_recorded_at_idx", "recorded_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (recorded_at)",
)

# The messages that events refer to by their addresses: see `app.audit.content`. One that is used on
# several days is there once for each, in that day's partition, and goes with it.
audit_messages = Table(
    "audit_messages",
    metadata,
    Column("stored_on", Date, nullable=False),  # in UTC
    Column("tenant", String(128), nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("parent", LargeBinary, nullable=False),  # the address of the message before
    Column("salt", LargeBinary, nullable=False),
    Column("encoding", SmallInteger, nullable=False),  # of the body: 0 as it is, 1 zstd, 2 erased
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant", "address", "stored_on"),
    postgresql_partition_by="RANGE (stored_on)",
)

# Every writer there ever was, each row with the hash of the one before it.
audit_register = Table(
    "audit_register",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # from 1 on, no gaps
    Column("writer", String(32), nullable=False),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    Column("entry", LargeBinary, nullable=False),  # JSON, see `app.audit.register`
    Column("hash", LargeBinary, nullable=False),  # SHA-256 of `entry`
    UniqueConstraint("writer"),
)

# A view for people and for dashboards: a row a request, from its two events. Of another MetaData,
# so that nobody takes it for a table to be made.
audit_records = Table(
    "audit_records",
    MetaData(),
    Column("request_id", String),
    Column("received_at", DateTime(timezone=True)),
    Column("route", String),
    Column("key_id", String),
    Column("tenant", String),
    Column("model", String),
    Column("stream", Boolean),
    Column("body_bytes", BigInteger),
    Column("parameters", JSONB),
    Column("client_ip", String),
    Column("user_agent", String),
    Column("client_request_id", String),
    # Null until the request has ended.
    Column("outcome", String),
    Column("status", Integer),
    Column("error_code", String),
    Column("finish_reason", String),
    Column("worker", String),
    Column("attempts", Integer),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("usage_exact", Boolean),
    Column("time_to_first_token_seconds", Double),
    Column("duration_seconds", Double),
    Column("findings", JSONB),
    Column("charged_tokens", BigInteger),
    Column("settled_at", DateTime(timezone=True)),
    Column("recorded_at", DateTime(timezone=True)),  # of the intent: what bounds it reads few days
)

# How far the spool of each gateway process has been shipped to `audit_events`.
audit_spool_offsets = Table(
    "audit_spool_offsets",
    metadata,
    Column("writer", String(32), primary_key=True),  # the name of its directory
    Column("segment", BigInteger, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),  # where the first unshipped frame begins
    # The chain up to there; no hash where a version before 0006 wrote the row.
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    Column("hash", LargeBinary),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
