"""The secrets of a development machine, kept under the gateway's home."""

import base64
import os
import secrets
import tempfile
from pathlib import Path

SECRET_BYTES = 32


def dev_pepper(home: Path) -> str:
    """The key pepper in `home/pepper`, created (mode 0600) by whoever comes first.

    Raises OSError where the home cannot be written, ValueError where the file is empty.
    """
    return _secret(home / "pepper")


def dev_sealing_key(home: Path) -> str:
    """The sealing key in `home/sealing-key`, likewise."""
    return _secret(home / "sealing-key")


def _secret(path: Path) -> str:
    try:
        return _read(path)
    except FileNotFoundError:
        _create(path)
        return _read(path)


def _read(path: Path) -> str:
    secret = path.read_text("ascii").strip()
    if not secret:
        raise ValueError(f"{path} is empty: restore it, or delete it and make new keys")
    return secret


def _create(path: Path) -> None:
    """Whole or not at all, and never over another's: a link fails where the name is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".secret-") as draft:  # 0600
        draft.write(base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode() + "\n")
        draft.flush()
        os.fsync(draft.fileno())
        try:
            os.link(draft.name, path)
        except FileExistsError:
            return
