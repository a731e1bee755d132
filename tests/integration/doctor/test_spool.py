"""Directories that records cannot or should not be kept in."""

from pathlib import Path

import pytest

from app.audit.spool.directory import open_own
from app.doctor import checkpoints, spool
from app.doctor.finding import Status
from app.doctor.mounts import file_system_of
from tests.integration.doctor.conftest import MakeVisit
from tests.integration.doctor.visiting import of

MOUNTS = """\
22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib
23 22 0:22 / /proc rw - proc proc rw
24 22 8:1 / /var/lib/gateway rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:24 / /var/lib/gateway/with\\040space rw - tmpfs tmpfs rw
"""


def test_a_spool_is_tried_and_left_as_it_was(visit: MakeVisit, tmp_path: Path) -> None:
    findings = spool.check(visit(audit_segment_bytes=1024 * 1024))
    assert of(findings, "spool leftovers").status is Status.OK
    assert str(tmp_path / "audit") in of(findings, "spool").found
    assert list((tmp_path / "audit").iterdir()) == []


def test_what_is_no_directory_cannot_be_one(visit: MakeVisit, tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file is in its place, also for root")
    (finding,) = spool.check(visit())
    assert finding.status is Status.FAILED
    assert "GATEWAY_AUDIT_DIRECTORY" in (finding.advice or "")


def test_a_disk_without_room_for_its_files_takes_no_request(visit: MakeVisit) -> None:
    finding = of(spool.check(visit(audit_segment_bytes=1 << 60)), "spool room")
    assert finding.status is Status.FAILED


def test_what_dead_processes_left_is_counted_and_stays(visit: MakeVisit, tmp_path: Path) -> None:
    root = tmp_path / "audit"
    left = open_own(root)
    (left.path / "segment").write_bytes(bytes(1024 * 1024))
    left.close()
    for _ in range(2):
        finding = of(spool.check(visit()), "spool leftovers")
        assert finding.status is Status.WARNING
        assert finding.found == "1 process that died left 1.0 MiB"
    assert (left.path / "segment").exists()


def test_what_a_living_process_has_is_not_touched(visit: MakeVisit, tmp_path: Path) -> None:
    own = open_own(tmp_path / "audit")
    try:
        assert of(spool.check(visit()), "spool leftovers").status is Status.OK
    finally:
        own.close()


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/home/x", "overlay"),
        ("/var/lib/gateway/audit", "ext4"),
        ("/var/lib/gateway/with space/audit", "tmpfs"),
        ("/var/lib/gatewayed", "overlay"),
    ],
)
def test_the_kind_of_file_system_is_that_of_the_nearest_mount(
    place: str, kind: str, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system_of(Path(place), mounts) == kind


def test_what_is_gone_with_the_container_is_no_place_for_records(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    for place, status in (("/home/x", Status.WARNING), ("/var/lib/gateway", Status.OK)):
        assert spool.kept(Path(place), mounts).status is status


def test_a_machine_that_does_not_tell_is_believed(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "none") is None
    assert spool.kept(Path("/srv/audit"), tmp_path / "none").status is Status.OK


@pytest.mark.parametrize(
    "url", ["file:///no/such/directory/file", "syslog:///no/such/socket", "s3://"]
)
def test_a_second_place_that_cannot_be_reached_is_named(visit: MakeVisit, url: str) -> None:
    (finding,) = checkpoints.check(visit(audit_checkpoints=url))
    assert finding.status is Status.FAILED
    assert "GATEWAY_AUDIT_CHECKPOINTS" in (finding.advice or "")


def test_a_file_as_the_second_place_is_looked_at_and_not_written(
    visit: MakeVisit, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints.jsonl"
    (finding,) = checkpoints.check(visit(audit_checkpoints=f"file://{file}"))
    assert finding.status is Status.OK
    assert not file.exists()
