"""Plans that keys refer to, limits of tenants, and what each request took from its budgets.

Safe on a live table, as 0002 is: columns that may be null are only noted in the catalogue. The lock
on `audit_records` is given up after as long as there. That on `api_keys` (and the new reference
makes Postgres read them once: thousands, at most) is given up sooner: every look-up of a key waits
behind it, and gives up after two seconds. Either way nothing has changed then, and `gateway db
upgrade` can be run again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
AUDIT_LOCK_SECONDS = 5
KEYS_LOCK_SECONDS = 1


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("policy", JSONB, nullable=False, server_default="{}"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="plans_pkey"),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("limits", JSONB, nullable=False, server_default="{}"),
        sa.Column("created_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="tenants_pkey"),
    )
    _wait_for_locks(AUDIT_LOCK_SECONDS)
    op.add_column("audit_records", sa.Column("charged_tokens", sa.BigInteger))
    op.add_column("audit_records", sa.Column("settled_at", MOMENT))
    # Last, so that keys are never locked while something else is waited for.
    _wait_for_locks(KEYS_LOCK_SECONDS)
    op.add_column("api_keys", sa.Column("plan", sa.String(64)))
    op.create_foreign_key(
        "api_keys_plan_fkey", "api_keys", "plans", ["plan"], ["name"], ondelete="RESTRICT"
    )


def downgrade() -> None:
    """Keys keep what their plans said, as their own. What an older version cannot read of it closes
    the key there, instead of opening it wider. Limits of tenants are lost."""
    _wait_for_locks(AUDIT_LOCK_SECONDS)
    op.drop_column("audit_records", "settled_at")
    op.drop_column("audit_records", "charged_tokens")
    _wait_for_locks(KEYS_LOCK_SECONDS)
    op.execute(
        "UPDATE api_keys SET policy = plans.policy || jsonb_strip_nulls(api_keys.policy) "
        "FROM plans WHERE plans.name = api_keys.plan"
    )
    op.drop_constraint("api_keys_plan_fkey", "api_keys")
    op.drop_column("api_keys", "plan")
    op.drop_table("tenants")
    op.drop_table("plans")


def _wait_for_locks(seconds: int) -> None:
    op.execute(f"SET LOCAL lock_timeout = '{seconds}s'")
