"""What a container does to a process, by the kernel alone: it is the first one of its own process
namespace, a user without rights, and may write to two directories."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

USER_ID = 10_001  # as in the Dockerfile

# Of root's powers one is left, to pass through the closed directories of whoever runs the tests:
# the interpreter may lie in one. It opens nothing for writing.
POWERS = "-all,+dac_read_search"
ENTER = (
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
    "--propagation", "private",
)  # fmt: skip
CONFINE = f"""
home=$1 temporary=$2; shift 2
for directory in "$home" "$temporary"; do mount --bind "$directory" "$directory"; done
mount -o remount,bind,ro /
export TMPDIR="$temporary"
exec setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups --no-new-privs \
    --inh-caps={POWERS} --ambient-caps={POWERS} --bounding-set={POWERS} "$@"
"""


@dataclass(frozen=True)
class Container:
    """`home` and `temporary` belong to its user, and outlast it."""

    home: Path
    temporary: Path

    def program(self, *command: str) -> tuple[str, ...]:
        """What runs a command in it, and ends as that does; the command is its process 1."""
        confined = ("sh", "-eu", "-c", CONFINE, "sh", str(self.home), str(self.temporary))
        return (*ENTER, *confined, *command)


def container_in(directory: Path) -> Container:
    made = Container(directory / "home", directory / "tmp")
    for each in (made.home, made.temporary):
        each.mkdir()
        os.chown(each, USER_ID, USER_ID)
    return made


@cache
def refusal() -> str | None:
    """Why there can be no such container here; None where there can."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "unshare and setpriv are missing: install util-linux"
    if os.geteuid() != 0:
        return "only root may make namespaces with a user of their own: run the tests as root"
    tried = subprocess.run([*ENTER, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"this machine refuses namespaces (needs CAP_SYS_ADMIN): {tried.stderr.strip()}"
    return None


def first_process(of: int) -> int:
    """As this machine numbers it: what `unshare`, the process `of`, has become the parent of."""
    children = Path(f"/proc/{of}/task/{of}/children").read_text("ascii").split()
    [child] = children
    return int(child)
