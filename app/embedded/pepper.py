"""The key pepper of a development machine, kept under the gateway's home."""

import os
import secrets
import tempfile
from pathlib import Path

FILE_NAME = "pepper"
PEPPER_BYTES = 32


def dev_pepper(home: Path) -> str:
    """The pepper in `home/pepper`, created (mode 0600) by whoever comes first.

    Raises OSError where the home cannot be written, ValueError where the file is empty.
    """
    path = home / FILE_NAME
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def _read(path: Path) -> str:
    pepper = path.read_text("ascii").strip()
    if not pepper:
        raise ValueError(f"{path} is empty: restore it, or delete it and make new keys")
    return pepper


def _create(path: Path) -> None:
    """Whole or not at all, and never over another's: a link fails where the name is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".pepper-") as draft:  # 0600
        draft.write(secrets.token_urlsafe(PEPPER_BYTES) + "\n")
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return
