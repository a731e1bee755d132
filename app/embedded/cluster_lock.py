"""Who uses the embedded cluster: kernel locks, so that a crash leaves nothing behind."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from app.embedded.errors import EmbeddedError

WAIT_SECONDS = 60.0  # another process creates, starts or stops the cluster: seconds
POLL_SECONDS = 0.05


class ClusterLock:
    """Two lock files: one is held while the cluster is started or stopped, the other is shared by
    all who use it. The last one to leave is the one who can have the second for himself."""

    def __init__(self, home: Path) -> None:
        self._turn = home / ".postgres.turn"
        self._users = home / ".postgres.users"

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One process at a time. Raises EmbeddedError after WAIT_SECONDS, OSError."""
        with self._turn.open("ab") as file:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    while not _lock(file, fcntl.LOCK_EX):  # noqa: ASYNC110 - the kernel's lock
                        await asyncio.sleep(POLL_SECONDS)
            except TimeoutError:
                raise EmbeddedError(
                    f"another process is busy with the embedded database for {WAIT_SECONDS:g} s; "
                    f"it holds {self._turn}"
                ) from None
            yield

    def join(self) -> IO[bytes]:
        """Counts us among the users, until the file is closed. Only in one's turn."""
        file = self._users.open("ab")
        _lock(file, fcntl.LOCK_SH)  # refused only to one who is not in turn
        return file

    @staticmethod
    def is_last(file: IO[bytes]) -> bool:
        """Whether nobody else uses the cluster. Only in one's turn."""
        return _lock(file, fcntl.LOCK_EX)


def _lock(file: IO[bytes], kind: int) -> bool:
    with suppress(BlockingIOError):  # somebody has it, which False says
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    return False
