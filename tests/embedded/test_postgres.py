"""The embedded PostgreSQL, on the real server from the wheel."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from app.embedded.cluster import Cluster
from app.embedded.errors import EmbeddedError
from app.embedded.postgres import DIRECTORY, embedded_postgres
from tests.support.conditions import eventually

CREATE = "CREATE TABLE IF NOT EXISTS note (text text)"
USER = """
import asyncio, pathlib, sys
from app.embedded.postgres import embedded_postgres

async def main():
    async with embedded_postgres(pathlib.Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made once for the module: a new cluster takes most of a second."""
    home = tmp_path_factory.mktemp("home")
    yield home
    assert running(home) is None, "a test left its server behind"


def running(home: Path) -> int | None:
    server = Cluster(home / DIRECTORY).running()
    return None if server is None else server.pid


async def query(url: str, statement: str) -> object:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(address)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_data_outlives_the_server(home: Path) -> None:
    async with embedded_postgres(home) as url:
        await query(url, CREATE)
        await query(url, "INSERT INTO note VALUES ('kept')")
    assert running(home) is None
    async with embedded_postgres(home) as url:
        assert await query(url, "SELECT text FROM note") == "kept"


async def test_it_listens_on_no_port(home: Path) -> None:
    async with embedded_postgres(home) as url:
        assert await query(url, "SHOW listen_addresses") == ""


async def test_the_last_to_leave_stops_it(home: Path) -> None:
    async with embedded_postgres(home) as first:
        pid = running(home)
        async with embedded_postgres(home) as second:
            assert second == first
        assert running(home) == pid
        assert await query(first, "SELECT 1") == 1
    assert running(home) is None


async def test_who_started_it_may_leave_first(home: Path) -> None:
    starter = embedded_postgres(home)
    await starter.__aenter__()
    async with embedded_postgres(home) as url:
        await starter.__aexit__(None, None, None)
        assert await query(url, "SELECT 1") == 1


async def test_many_at_once_share_one_server(home: Path) -> None:
    async def visit() -> int | None:
        async with embedded_postgres(home) as url:
            await query(url, "SELECT 1")
            return running(home)

    pids = await asyncio.gather(*(visit() for _ in range(5)))
    assert None not in pids
    assert running(home) is None


async def test_a_killed_owners_server_is_taken_over(home: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(home), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    await owner.stdout.readline()
    pid = running(home)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    async with embedded_postgres(home) as url:
        assert running(home) == pid
        assert await query(url, "SELECT 1") == 1
    assert running(home) is None


async def test_a_crashed_servers_pid_file_is_recovered(home: Path) -> None:
    async with embedded_postgres(home):
        left_behind = (home / DIRECTORY / "postmaster.pid").read_text().splitlines()
    # As after a reboot: the process of that number is now another program.
    left_behind[0] = str(os.getpid())
    (home / DIRECTORY / "postmaster.pid").write_text("\n".join(left_behind))
    async with embedded_postgres(home) as url:
        assert await query(url, "SELECT 1") == 1


async def test_a_server_that_died_is_started_by_the_next(home: Path) -> None:
    async with embedded_postgres(home):
        pid = running(home)
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)  # its own way of dying at once, children included
        await eventually(lambda: running(home) is None, 60, "the server to be gone")
        async with embedded_postgres(home) as url:
            assert await query(url, "SELECT 1") == 1


async def test_an_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    draft = tmp_path / f"{DIRECTORY}.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(tmp_path) as url:
        assert await query(url, "SELECT 1") == 1
    assert not draft.exists()


async def test_a_home_too_long_for_a_socket_works(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 20) / ("er" * 40) / "with space's"
    async with embedded_postgres(home) as url:
        assert await query(url, "SHOW data_directory") == str(home / DIRECTORY)
        socket_directory = str(make_url(url).query["host"])
        assert os.stat(socket_directory).st_mode & 0o77 == 0
    os.rmdir(socket_directory)


async def test_a_home_that_is_a_file_is_one_clear_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    with pytest.raises(EmbeddedError, match=r"^cannot keep a database under .*: File exists$"):
        async with embedded_postgres(home):
            pass


async def test_another_major_versions_data_is_one_clear_line(tmp_path: Path) -> None:
    async with embedded_postgres(tmp_path):
        pass
    (tmp_path / DIRECTORY / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="incompatible") as failure:
        async with embedded_postgres(tmp_path):
            pass
    assert "\n" not in str(failure.value)
