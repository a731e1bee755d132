"""The second place for checkpoints, as the settings name it."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.audit.checkpoints.file_place import FilePlace
from app.audit.checkpoints.publisher import Place
from app.audit.checkpoints.s3_place import S3Place
from app.audit.checkpoints.syslog_place import SyslogPlace
from app.settings import SettingsError

DEFAULT_NAME = "checkpoints.jsonl"
VARIABLE = "GATEWAY_AUDIT_CHECKPOINTS"
_FORMS = (
    "must be file:///path, syslog:///dev/log, syslog://host:514, syslog+tcp://host:601 or "
    "s3://bucket/prefix"
)


def place_of(url: str | None, audit_directory: Path) -> Place:
    """What the setting `audit_checkpoints` names; without one, a file in the audit directory.

    Raises SettingsError for what can never be used. A place that is away for now is none.
    """
    try:
        return _place(url, audit_directory)
    except (SettingsError, ValueError) as error:
        raise SettingsError(f"{VARIABLE}: {error}") from None


def checkpoint_file(url: str | None, audit_directory: Path) -> Path | None:
    """Where the second place is a file, that. Raises SettingsError."""
    try:
        return _file(url, audit_directory)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE}: {error}") from None


def _place(url: str | None, audit_directory: Path) -> Place:
    path = _file(url, audit_directory)
    if path is not None:
        if url is not None and not path.parent.is_dir():
            raise ValueError(f"{path.parent} is no directory")
        return FilePlace(path)
    split = urlsplit(url or "")
    if split.query or split.fragment:
        raise ValueError(_FORMS)
    if split.scheme in ("syslog", "syslog+tcp"):
        return SyslogPlace(split)
    if split.scheme == "s3":
        return S3Place(split)
    raise ValueError(_FORMS)


def _file(url: str | None, audit_directory: Path) -> Path | None:
    if url is None:
        return audit_directory / DEFAULT_NAME
    split = urlsplit(url)
    if split.scheme != "file":
        return None
    if split.netloc or split.path in ("", "/") or split.path.endswith("/"):
        raise ValueError("a file is named as file:///path")
    return Path(unquote(split.path))
