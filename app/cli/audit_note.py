"""Events that a command records in the audit log, before it does what they say."""

import os
import pwd
import socket
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.noting import noting
from app.audit.spool.frames import Frame, FrameKind
from app.audit.start import signing_keys_of
from app.cli.keys import command_pepper
from app.settings import Settings


async def note(
    engine: AsyncEngine, settings: Settings, kind: FrameKind, payloads: Sequence[bytes]
) -> None:
    """In the database on return. Raises GatewayError and SettingsError."""
    keys = signing_keys_of(settings, command_pepper(settings).encode())
    async with noting(settings, engine, keys) as record:
        for payload in payloads:
            await record(Frame(kind, payload))


def operator() -> str:
    """Who runs this command, and where: as the system knows it, not as the environment says."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user, which has no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
