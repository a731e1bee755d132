"""How a spool's segments are named and found."""

from pathlib import Path

import pytest

from app.audit.spool.segments import Position, list_segments, segment_number, segment_path
from tests.support.memory_disk import MemoryDisk

DIRECTORY = Path("/spool")


@pytest.mark.parametrize(
    ("number", "name"), [(1, "00000001.spool"), (99_999_999, "99999999.spool")]
)
def test_a_segment_is_named_by_its_number(number: int, name: str) -> None:
    assert segment_path(DIRECTORY, number) == DIRECTORY / name
    assert segment_number(DIRECTORY / name) == number


@pytest.mark.parametrize(
    "name", ["lock", "set-aside.jsonl", ".spool", "1.spool.tmp", "-1.spool", "1_0.spool", "².spool"]
)
def test_other_files_are_no_segments(name: str) -> None:
    assert segment_number(DIRECTORY / name) is None


def test_segments_are_found_in_the_order_of_their_numbers() -> None:
    disk = MemoryDisk()
    for number in (100_000_000, 2, 99_999_999, 7):  # nine digits sort before eight by name
        disk.put(segment_path(DIRECTORY, number), b"")
    disk.put(DIRECTORY / "lock", b"")
    disk.put(segment_path(Path("/other"), 3), b"")
    assert list_segments(disk, DIRECTORY) == [2, 7, 99_999_999, 100_000_000]


def test_positions_follow_each_other() -> None:
    assert Position(1, 900) < Position(2, 0) < Position(2, 1)
