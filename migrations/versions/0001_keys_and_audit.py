"""API keys with their secrets, and the audit records of requests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default="true"),
        sa.Column("policy", JSONB, nullable=False, server_default="{}"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="api_keys_pkey"),
    )
    op.create_index("api_keys_tenant_idx", "api_keys", ["tenant"])

    op.create_table(
        "api_key_secrets",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("hint", sa.String(24), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", MOMENT),
        sa.PrimaryKeyConstraint("digest", name="api_key_secrets_pkey"),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name="api_key_secrets_key_id_fkey", ondelete="CASCADE"
        ),
    )
    op.create_index("api_key_secrets_key_id_idx", "api_key_secrets", ["key_id"])
    _create_audit_records()


def _create_audit_records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("request_id", sa.String(40), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32)),
        sa.Column("tenant", sa.String(128)),
        sa.Column("model", sa.String(256)),
        sa.Column("stream", sa.Boolean),
        sa.Column("body_bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("parameters", JSONB, nullable=False, server_default="{}"),
        sa.Column("client_ip", sa.String(45)),
        sa.Column("user_agent", sa.String(256)),
        sa.Column("client_request_id", sa.String(128)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("status", sa.Integer),
        sa.Column("error_code", sa.String(64)),
        sa.Column("finish_reason", sa.String(32)),
        sa.Column("worker", sa.String(256)),
        sa.Column("attempts", sa.Integer),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("usage_exact", sa.Boolean),
        sa.Column("time_to_first_token_seconds", sa.Double),
        sa.Column("duration_seconds", sa.Double),
        sa.PrimaryKeyConstraint("request_id", name="audit_records_pkey"),
    )
    op.create_index(
        "audit_records_received_at_idx", "audit_records", ["received_at"], postgresql_using="brin"
    )
    op.create_index(
        "audit_records_key_id_received_at_idx", "audit_records", ["key_id", "received_at"]
    )


def downgrade() -> None:
    op.drop_table("audit_records")
    op.drop_table("api_key_secrets")
    op.drop_table("api_keys")
