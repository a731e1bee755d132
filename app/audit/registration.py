"""The first event of every chain: which process writes it, and by which key it is signed."""

import socket
from datetime import UTC, datetime

import orjson

from app import __version__
from app.audit.spool.frames import Frame, FrameKind

FORMAT = 1


def registration(writer: str, public_key: str) -> Frame:
    """`writer` is the id of the chain, `public_key` in hexadecimal digits."""
    payload = {
        "writer": writer,
        "gateway": socket.gethostname(),
        "version": __version__,
        "started_at": datetime.now(UTC).isoformat(),
        "key": public_key,
        "format": FORMAT,
    }
    return Frame(FrameKind.REGISTRATION, orjson.dumps(payload))
