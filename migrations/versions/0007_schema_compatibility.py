"""The schema says the oldest code that it serves, in a table of one row.

In a rolling upgrade the schema changes first: replicas of the version before run on, and restart,
on a schema that is newer than they are. Up to here a version refused every schema but its own when
it started. `migrations/env.py` keeps the row, by what each migration declares from here on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

phase = "expand"
serves_code_from = "0006"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    made = op.create_table(
        "schema_compatibility",
        sa.Column("serves_code_from", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("serves_code_from", name="schema_compatibility_pkey"),
    )
    op.bulk_insert(made, [{"serves_code_from": serves_code_from}])


def downgrade() -> None:
    op.drop_table("schema_compatibility")
