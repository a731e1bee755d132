"""Syslog as the second place: a local socket, or another machine over UDP or TCP.

No syslog acknowledges anything. A local daemon and TCP tell when they are away, a message or two
late; UDP does not.
"""

import socket
from datetime import UTC
from typing import Any
from urllib.parse import SplitResult

from app.audit.checkpoints.checkpoint import Checkpoint
from app.audit.checkpoints.publisher import PlaceFailed
from app.settings import SettingsError

TIMEOUT_SECONDS = 5.0
UDP_PORT = 514
TCP_PORT = 601  # RFC 3195; a checkpoint is no traffic for a port that needs root to listen on
TAG = "qwythos-audit"
_PRIORITY = 10 * 8 + 5  # authpriv, notice


class SyslogPlace:
    """Implements Place."""

    name = "syslog"

    def __init__(self, url: SplitResult) -> None:
        """`syslog:///dev/log`, `syslog://host:514` (UDP) or `syslog+tcp://host:601`. Raises
        SettingsError."""
        self._socket: socket.socket | None = None
        if url.scheme == "syslog" and url.path and not url.netloc:
            self._address: str | tuple[str, int] = url.path
            self._shown = url.path
        elif url.hostname and url.path in ("", "/"):
            default = TCP_PORT if url.scheme == "syslog+tcp" else UDP_PORT
            self._address = (url.hostname, url.port or default)
            self._shown = "{}:{}".format(*self._address)
        else:
            raise SettingsError("syslog is named by the path of a socket or by a host")
        self._stream = url.scheme == "syslog+tcp"

    def publish(self, checkpoint: Checkpoint) -> None:
        message = self._message(checkpoint)
        try:
            if self._socket is None:
                self._socket = self._connected()
            self._socket.sendall(message)
        except OSError as error:
            self.close()
            raise PlaceFailed(f"{self._shown}: {error.strerror or error}") from error

    def reach(self) -> str:
        try:
            self._connected().close()
        except OSError as error:
            raise PlaceFailed(f"{self._shown}: {error.strerror or error}") from error
        if self._stream or isinstance(self._address, str):
            return f"{self._shown} takes connections"
        return f"{self._shown} has an address; over UDP nobody can know more"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _message(self, checkpoint: Checkpoint) -> bytes:
        if isinstance(self._address, str):  # as the C library writes it: daemons add the rest
            return f"<{_PRIORITY}>{TAG}: ".encode() + checkpoint.payload
        at = checkpoint.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        header = f"<{_PRIORITY}>1 {at} {socket.gethostname()} {TAG} - - - "  # RFC 5424
        message = header.encode() + checkpoint.payload
        # A checkpoint has no line breaks of its own (RFC 6587, 3.4.2).
        return message + b"\n" if self._stream else message

    def _connected(self) -> socket.socket:
        if not isinstance(self._address, str) and self._stream:
            return socket.create_connection(self._address, TIMEOUT_SECONDS)
        if isinstance(self._address, str):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            address: str | tuple[Any, ...] = self._address
        else:
            host, port = self._address
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(TIMEOUT_SECONDS)
            made.connect(address)
        except OSError:
            made.close()
            raise
        return made
