"""How what was asked and answered is kept."""

from pathlib import Path

from pydantic import Field

from app.settings.forms import MIB, Theme


class AuditSettings(Theme):
    """The audit log

    See [The audit log](audit-log.md).
    """

    audit_directory: Path | None = None
    """The spool of records: on a disk that outlives the process. Any number of processes may share
    it. By default `audit` below `GATEWAY_HOME`."""

    audit_strict: bool = False
    """Every piece of an answer is on disk before it is sent, but for what
    `GATEWAY_AUDIT_REDACTION` masks or still holds back. Otherwise a crash may lose the last second
    of its text, though never that there was a request."""

    audit_redaction: str | None = None
    """A filter profile: what it finds is masked in the texts that are kept, before they are on any
    disk. API keys of this gateway always are."""

    audit_checkpoints: str | None = None
    """The second place of checkpoints, out of the database's reach: `file:///path`,
    `syslog:///dev/log`, `syslog://host:514`, `syslog+tcp://host:601` or `s3://bucket/prefix`. By
    default a file below the spool's directory."""

    audit_checkpoint_records: int = Field(default=1_000, ge=1)
    """The log is signed after so many records: what is older cannot be changed unseen."""

    audit_checkpoint_seconds: float = Field(default=10.0, gt=0)
    """And after so much time, where there are fewer."""

    audit_flush_seconds: float = Field(default=0.25, gt=0)
    """How often the spool is shipped to the database: many records with one statement, and each
    there within a second."""

    audit_segment_bytes: int = Field(default=64 * MIB, ge=1 * MIB)
    """The spool's files: room for some 60,000 requests each. One more is kept free, for the ends of
    running requests when the disk is full."""

    audit_write_seconds: float = Field(default=5.0, gt=0)
    """What a disk may take to write; then it counts as failed."""

    audit_chunk_seconds: float = Field(default=1.0, gt=0)
    """Of a running answer, what a crash may lose of it: so much time..."""

    audit_chunk_characters: int = Field(default=16_384, ge=1)
    """...or so much text, whichever comes first."""

    audit_known_messages: int = Field(default=100_000, ge=1)
    """Messages that were stored today and need not be again: some 150 bytes each, 15 MB in all."""

    audit_open_records: int = Field(default=10_000, ge=1)
    """Records in memory, of tenants that may go on while nothing can be written: some 2 KiB
    each."""
