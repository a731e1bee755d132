"""The examples of `deploy/` are read by the servers that they are for."""

import subprocess
from pathlib import Path

from bench.nginx import find_nginx
from tests.support.envoy import EXAMPLE

NGINX = EXAMPLE.parents[1] / "nginx" / "nginx.conf"
CHECK_SECONDS = 60.0  # only spent on failure


def test_envoy_takes_its_example(envoy_binary: str) -> None:
    command = [envoy_binary, "--mode", "validate", "--log-level", "warn", "-c", str(EXAMPLE)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS)
    assert checked.returncode == 0, checked.stderr
    assert "eprecated" not in checked.stderr


def test_nginx_takes_its_example(tmp_path: Path) -> None:
    # As somebody who may not write to /var/run.
    text = NGINX.read_text("utf-8").replace("/var/run/nginx.pid", str(tmp_path / "nginx.pid"))
    (tmp_path / "nginx.conf").write_text(text, "utf-8")
    binary = find_nginx(None).binary
    command = [str(binary), "-t", "-q", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run(
        [*command, "-e", "stderr"], capture_output=True, text=True, timeout=CHECK_SECONDS
    )
    assert (checked.returncode, checked.stderr) == (0, "")
