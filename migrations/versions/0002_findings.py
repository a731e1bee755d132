"""What was done to each request and its answer, and why, beside its audit record.

Safe on a live table: a constant default is kept in the catalogue, no row is written. The lock that
this takes lasts for milliseconds, but waits for whoever reads the table, and all writers wait
behind it; so it is given up after a few seconds, well within what the audit log buffers. Then
nothing has changed, and `gateway db upgrade` can be run again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LOCK_SECONDS = 5


def upgrade() -> None:
    op.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    op.add_column(
        "audit_records", sa.Column("findings", JSONB, nullable=False, server_default="{}")
    )


def downgrade() -> None:
    op.drop_column("audit_records", "findings")
