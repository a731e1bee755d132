"""Which number and which time an event of a gateway can have.

A row beyond them was made up: `gateway audit verify` tells of it, and whoever asks what the log
says of a request does not get it. Its role may insert any, into a partition of any day up to the
end of the year 9999; the tables' owner also of days that no driver can read.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, literal_column

from app.audit.stored import MAX_YEAR

FIRST_SEQUENCE = 1
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(MAX_YEAR + 1, 1, 1, tzinfo=UTC)  # the first moment beyond


def within_bounds(columns: Any) -> ColumnElement[bool]:
    """Of the columns of `audit_events`. Written out, so that a plan leaves out whole partitions."""
    return and_(
        columns.sequence >= literal_column(str(FIRST_SEQUENCE)),
        columns.recorded_at >= literal_column(in_sql(BEGINNING)),
        columns.recorded_at < literal_column(in_sql(END)),
    )


def in_sql(moment: datetime) -> str:
    return f"timestamptz '{moment.isoformat()}'"
