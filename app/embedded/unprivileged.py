"""Runs a program as another user: `unprivileged.py UID GID PROGRAM ARGUMENT...`, as root.

PostgreSQL refuses to run as root. Another user cannot pass through directories of mode 0700, such
as root's home, to the program or to its data, and we open no directory to everyone. On Linux the
program keeps one of root's powers instead: to pass through them (CAP_DAC_OVERRIDE, ambient). Run as
a file, so it imports nothing of the gateway.
"""

import ctypes
import os
import sys

PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(uid: int, gid: int) -> None:
    """For good. Without the power to pass through where the system does not grant it."""
    on_linux = sys.platform == "linux"
    if on_linux:
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if on_linux:
        only = 1 << CAP_DAC_OVERRIDE
        sets = (_Sets * 2)(_Sets(only, only, only), _Sets(0, 0, 0))
        libc.capset(ctypes.byref(_Header(CAPABILITY_VERSION_3, 0)), sets)
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main() -> None:
    uid, gid, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    become(uid, gid)
    os.execv(program, sys.argv[3:])  # noqa: S606 - becoming it is the point


if __name__ == "__main__":
    main()
