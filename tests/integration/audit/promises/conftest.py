"""Gateways whose audit log is on a disk that fails when a test says so, or that are killed."""

from functools import partial
from pathlib import Path

import pytest

from app.audit.spool import shipper
from app.audit.spool.disk import RealDisk
from app.audit.spool.writer import SpoolWriter
from tests.integration.audit.promises.kept import WitnessDisk
from tests.support.faulty_disk import FaultyDisk

SEGMENT_BYTES = 16 * 1024  # some ten requests


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    """Of the gateways that the test starts afterwards. At the end nothing was done to a file that
    had failed."""
    disk = FaultyDisk(RealDisk())
    monkeypatch.setattr("app.audit.start.RealDisk", lambda: disk)
    return disk


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller than the settings allow, so that a test can fill them."""

    def small(*args: object, segment_bytes: int, writer: str) -> SpoolWriter:
        make = partial(SpoolWriter, segment_bytes=SEGMENT_BYTES, writer=writer)
        return make(*args)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("app.audit.start.SpoolWriter", small)


@pytest.fixture
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways in this process notice within moments that another has died."""
    monkeypatch.setattr(shipper, "ADOPT_SECONDS", 0.1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An audit directory that several gateways share."""
    return tmp_path / "audit"


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> WitnessDisk:
    """What the gateways that the test starts afterwards have ever written."""
    disk = WitnessDisk()
    monkeypatch.setattr("app.audit.start.RealDisk", lambda: disk)
    return disk
