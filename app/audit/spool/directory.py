"""One directory for each writer below the audit directory, told living from dead by a lock.

`<root>/<writer: 32 hex>/lock` is held by flock for as long as its process lives, and the kernel
lets go of it however the process ends. Any number of processes may open and take over directories
below one root at the same time: whoever has the lock of a file that is still in its place has the
directory, and nobody else touches what is in it.
"""

import errno
import fcntl
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path

import structlog

LOCK_NAME = "lock"
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_WRITER = re.compile(r"[0-9a-f]{32}")

log = structlog.get_logger()


class OwnDirectory:
    """A writer's directory that nobody else touches until `close` or `remove`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock: int | None = lock

    @property
    def writer(self) -> str:
        """The id of the writer whose records these are: 32 hexadecimal digits."""
        return self.path.name

    def close(self) -> None:
        """Leaves it, with all that is in it, to whoever takes it over. May be called again."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove(self) -> None:
        """Ends it. Raises OSError (ENOTEMPTY), with nothing done, where a file is left in it."""
        if self._lock is None:
            raise ValueError(f"{self.path} is not ours any more")
        left = [name for name in os.listdir(self.path) if name != LOCK_NAME]
        if left:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(self.path))
        with suppress(FileNotFoundError):  # it was never locked, or is removed
            os.unlink(self.path / LOCK_NAME)
        with suppress(FileNotFoundError):  # whoever met it without a lock has removed it
            os.rmdir(self.path)
        self.close()


def open_own(root: Path) -> OwnDirectory:
    """A new directory, there also after a loss of power. Makes `root` where it is missing.

    Raises OSError where it cannot be made, or where its filesystem has no locks.
    """
    _make(root)
    while True:
        path = root / uuid.uuid4().hex
        path.mkdir(mode=DIRECTORY_MODE)
        # Until it is locked it looks abandoned, and may be taken from us, or be gone.
        with suppress(FileNotFoundError):  # taken from us, as above: another is made
            lock = _lock(path, create=True)
            if lock is not None:
                own = OwnDirectory(path, lock)
                break
    try:
        _sync(root)
    except OSError:
        own.close()
        raise
    return own


def abandoned(root: Path) -> list[OwnDirectory]:
    """The directories whose processes are dead, by the writers' ids; ours from now on.

    One that cannot be opened is told of in the log and left as it is.
    """
    taken = []
    for path in _directories(root):
        try:
            lock = _take_over(path)
        except FileNotFoundError:  # another took it over, and has removed it
            continue
        except OSError as error:
            log.error("audit_directory_unreadable", directory=str(path), reason=str(error))
            continue
        if lock is not None:
            taken.append(OwnDirectory(path, lock))
    return taken


def _directories(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if _WRITER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return []


def _take_over(path: Path) -> int | None:
    try:
        return _lock(path, create=False)
    except FileNotFoundError:
        pass
    # It was being made or removed when its process died, and is empty then; or somebody has
    # deleted the lock, which is no reason to lose what is beside it.
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return _lock(path, create=True)
    return None


def _lock(path: Path, *, create: bool) -> int | None:
    """The descriptor that holds the lock, or None where another process holds it."""
    name = path / LOCK_NAME
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    descriptor = os.open(name, flags, FILE_MODE)
    held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between our opening and our locking it another may have had it, and have removed it.
        held = os.path.samestat(os.fstat(descriptor), os.stat(name))
    except (BlockingIOError, FileNotFoundError):
        pass
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None


def _make(root: Path) -> None:
    root = root.absolute()
    missing = [path for path in (root, *root.parents) if not path.exists()]
    root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    for path in missing:
        _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
