"""The image as far as it can be made without a container engine; and what it is run with."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.deploy.build_context import BuildContext
from tests.deploy.containers import Container, container_in, refusal
from tests.deploy.dockerfile import parse
from tests.deploy.plain_build import PlainBuild
from tests.support.gateway import new_key
from tests.support.scripted_worker import ScriptedWorker

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image_environment() -> Iterator[Path]:
    """The virtual environment that the image holds: the stage `build`, run as the Dockerfile says.
    Once, as it takes half a minute. On this machine's Python, which need not be the image's."""
    directory = Path(tempfile.mkdtemp(prefix="qwythos-image-"))
    directory.chmod(0o755)  # another user runs it
    build = PlainBuild(directory, BuildContext(ROOT))
    build.run(parse((ROOT / "Dockerfile").read_text("utf-8")).stages["build"])
    yield build.path("/opt/gateway")
    shutil.rmtree(directory)


@pytest.fixture
def container() -> Iterator[Container]:
    reason = refusal()
    if reason is not None:
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="qwythos-container-"))
    directory.chmod(0o755)
    yield container_in(directory)
    shutil.rmtree(directory)


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with ScriptedWorker() as worker:
        yield worker


@pytest.fixture
async def key(engine: AsyncEngine) -> str:
    return await new_key(engine)
