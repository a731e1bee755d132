"""The tables, as SQLAlchemy knows them. Migrations in `migrations/` make them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
    }
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

audit_records = Table(
    "audit_records",
    metadata,
    Column("request_id", String(40), primary_key=True),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("route", String(64), nullable=False),
    Column("key_id", String(32)),
    Column("tenant", String(128)),
    Column("model", String(256)),
    Column("stream", Boolean),
    Column("body_bytes", BigInteger, nullable=False, server_default="0"),
    Column("parameters", JSONB, nullable=False, server_default="{}"),
    Column("client_ip", String(45)),
    Column("user_agent", String(256)),
    Column("client_request_id", String(128)),
    # Null until the request has ended: what a crash leaves behind.
    Column("outcome", String(16)),
    Column("status", Integer),
    Column("error_code", String(64)),
    Column("finish_reason", String(32)),
    Column("worker", String(256)),
    Column("attempts", Integer),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("usage_exact", Boolean),
    Column("time_to_first_token_seconds", Double),
    Column("duration_seconds", Double),
    Column("findings", JSONB, nullable=False, server_default="{}"),
    # What was taken from the budgets, and when: null where nothing was.
    Column("charged_tokens", BigInteger),
    Column("settled_at", DateTime(timezone=True)),
    Index("audit_records_received_at_idx", "received_at", postgresql_using="brin"),
    Index("audit_records_key_id_received_at_idx", "key_id", "received_at"),
    # For sums of a day or a month, from the index alone.
    *(
        Index(
            f"audit_records_{subject}_settled_at_idx",
            subject,
            "settled_at",
            postgresql_include=["charged_tokens"],
            postgresql_where=text("settled_at IS NOT NULL"),
        )
        for subject in ("key_id", "tenant")
    ),
)

# How far the spool of each gateway process has been shipped to `audit_records`.
audit_spool_offsets = Table(
    "audit_spool_offsets",
    metadata,
    Column("writer", String(32), primary_key=True),  # the name of its directory
    Column("segment", BigInteger, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),  # where the first unshipped frame begins
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
