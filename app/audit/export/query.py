"""What of the log is exported."""

from dataclasses import dataclass

from app.audit.log_reader import Part


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """`tenant` and `key_id`: whose requests; None for all. `content`: what was said, too."""

    part: Part
    tenant: str | None = None
    key_id: str | None = None
    content: bool = False
