"""How far each spool of audit records has been shipped.

A row belongs to the directory of one process and goes with it. It changes in the transaction that
writes the records, so that what was cut between a commit and its answer is not written twice.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "audit_spool_offsets",
        sa.Column("writer", sa.String(32), nullable=False),
        sa.Column("segment", sa.BigInteger, nullable=False),
        sa.Column("offset_bytes", sa.BigInteger, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("writer", name="audit_spool_offsets_pkey"),
    )


def downgrade() -> None:
    """An older version ships no spool; what is left in one is shipped from its start when this
    revision is back, and meets its own rows."""
    op.drop_table("audit_spool_offsets")
