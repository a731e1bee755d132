"""Indexes for who refers to a plan, and for sums of what was charged to a key or a tenant.

Built beside running writers, which no transaction can do; so they are a revision of their own. An
index whose building was interrupted stays behind, unused: it is dropped when this is run again.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COVERING = "(%s, settled_at) INCLUDE (charged_tokens) WHERE settled_at IS NOT NULL"
INDEXES = {
    "api_keys_plan_idx": "api_keys (plan)",
    "audit_records_key_id_settled_at_idx": "audit_records " + COVERING % "key_id",
    "audit_records_tenant_settled_at_idx": "audit_records " + COVERING % "tenant",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
