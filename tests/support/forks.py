"""Child processes that are cheap to start, to be killed: forks of the test's own process."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn


def fork(do: Callable[[], object]) -> int:
    """The pid of a process that does it and exits: with 0, or with 1 after an exception."""
    with warnings.catch_warnings():
        # Threads of earlier tests may be there, which the child does not have; it needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _do_and_exit(do)
    return pid


def _do_and_exit(do: Callable[[], object]) -> NoReturn:
    status = 1
    try:
        do()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the test may go on in the child
        traceback.print_exc()
    finally:
        os._exit(status)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def kill_myself() -> NoReturn:
    while True:
        os.kill(os.getpid(), signal.SIGKILL)


def was_killed(pid: int) -> bool:
    """Once it has ended. Fails where it ended by an exception."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0
