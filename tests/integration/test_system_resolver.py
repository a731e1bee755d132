"""The addresses behind a name, by the system's own resolver and a name server that changes its
mind: in namespaces of their own, where port 53 and /etc/resolv.conf are a test's to use."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RESOLV_CONF = """\
nameserver 127.0.0.1
search ns.svc.cluster.local svc.cluster.local cluster.local
options ndots:5 timeout:10 attempts:1
"""
NAME = "vllm.ns.svc.cluster.local"

INSIDE = """
import fcntl, json, socket, struct, sys
import uvloop
from app.upstream.membership.dns import NoAnswer, addresses_of
from tests.support.name_server import A, NameServer

with socket.socket() as any_socket:  # SIOCSIFFLAGS: loopback is up
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))
server = NameServer()
server.start()


async def ask(name):
    try:
        return sorted(await addresses_of(name))
    except NoAnswer:
        return None


async def main():
    for step in json.load(sys.stdin):
        server.addresses = step["addresses"]
        server.failing = set(step["failing"])
        print(json.dumps(await ask(step["ask"])))
    print(server.over_tcp)


uvloop.run(main())
"""


def isolated(command: list[str]) -> list[str]:
    """As the root of nothing but its own network and mounts."""
    return ["unshare", "--map-root-user", "--user", "--net", "--mount", *command]


@pytest.fixture(scope="module")
def can_isolate() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare on this machine")
    tried = subprocess.run(isolated(["mount", "--bind", "/etc", "/etc"]), capture_output=True)
    if tried.returncode:
        pytest.skip("namespaces are not allowed on this machine")


def answers(tmp_path: Path, *steps: dict[str, Any]) -> tuple[list[Any], int]:
    """What is made of each step's answer; and how many answers went over TCP."""
    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    (tmp_path / "hosts").write_text("")
    script = (
        'mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts && '
        'exec "$2" -c "$3"'
    )
    arguments = ["sh", "-c", script, "sh", str(tmp_path), sys.executable, INSIDE]
    done = subprocess.run(
        isolated(arguments), input=json.dumps(steps), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *found, over_tcp = map(json.loads, done.stdout.splitlines())
    return found, over_tcp


def step(*addresses: str, failing: int | None = None, ask: str = NAME) -> dict[str, Any]:
    named = {NAME: list(addresses)}
    return {"addresses": named, "failing": [] if failing is None else [failing], "ask": ask}


@pytest.mark.usefixtures("can_isolate")
def test_the_resolver_follows_a_headless_service(tmp_path: Path) -> None:
    both = ["10.0.0.1", "fd00::1"]
    many = sorted(f"10.0.1.{number}" for number in range(60))
    found, over_tcp = answers(
        tmp_path,
        step("10.0.0.2", "10.0.0.1"),
        step("10.0.0.3"),
        step(*both),
        step("fd00::1"),
        step("10.0.0.1", ask="vllm"),
        step("10.0.0.1", ask="vllm.ns.svc"),
        step(*many),
    )
    assert found == [
        ["10.0.0.1", "10.0.0.2"],
        ["10.0.0.3"],
        ["10.0.0.1"],
        ["fd00::1"],
        ["10.0.0.1"],
        ["10.0.0.1"],
        many,
    ]
    assert over_tcp > 0


@pytest.mark.usefixtures("can_isolate")
def test_the_resolver_tells_none_from_no_answer(tmp_path: Path) -> None:
    a_record, aaaa_record = 1, 28
    found, _ = answers(
        tmp_path,
        step(ask="nobody.ns.svc.cluster.local"),
        step(),
        step("10.0.0.1", "fd00::1", failing=a_record),
        step("10.0.0.1", "fd00::1", failing=aaaa_record),
    )
    assert found == [None, None, None, ["10.0.0.1"]]
