from pathlib import Path

import pytest

from app.rules.document import RulesRefused
from app.rules.watch import RulebookWatch
from tests.support.rounds import Rounds

ONE = "pack: acme\nrules: [{id: ticket, pattern: 'ACME-[0-9]{4}'}]"
TWO = "pack: acme\nrules: [{id: ticket, pattern: 'ACME-[0-9]{5}'}]"
BAD = "pack: acme\nrules: [{id: ticket, pattern: 'ACME-[0-9]+'}]"


class Watching(Rounds):
    """A watch whose sleeps end when a test says so."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.told: list[bool] = []
        self.watch = RulebookWatch(
            path,
            default_profile="default",
            reload_seconds=5.0,
            rules_reloaded=self.told.append,
            sleep=self.sleep,
        )

    def pattern(self) -> str:
        return self.watch.current.packs["acme"].rules[0].pattern


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    write(path, ONE)
    return path


@pytest.fixture
def watching(path: Path) -> Watching:
    return Watching(path)


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def remove(path: Path) -> None:
    path.unlink()


async def test_changed_rules_are_taken(watching: Watching, path: Path) -> None:
    before = watching.watch.current
    async with watching.running(watching.watch.run):
        write(path, TWO)
        (event,) = await watching.look()
    assert event["event"] == "rules_reloaded"
    assert event["packs"] == len(before.packs)
    assert event["rules"] == sum(len(pack.descriptions) for pack in before.packs.values())
    assert watching.pattern() == "ACME-[0-9]{5}"
    assert before.packs["acme"].rules[0].pattern == "ACME-[0-9]{4}"  # whoever has it, keeps it
    assert watching.told == [True]
    assert watching.slept == [5.0, 5.0]


async def test_the_same_rules_are_left_alone(watching: Watching, path: Path) -> None:
    before = watching.watch.current
    async with watching.running(watching.watch.run):
        write(path, ONE)  # touched
        assert await watching.look() == []
    assert watching.watch.current is before
    assert watching.told == []


async def test_bad_rules_change_nothing_and_are_told_once(watching: Watching, path: Path) -> None:
    before = watching.watch.current
    async with watching.running(watching.watch.run):
        write(path, BAD)
        (event,) = await watching.look()
        assert await watching.look() == []
    assert (event["event"], event["log_level"]) == ("rules_refused", "error")
    assert event["reason"].startswith("own.yaml: rule ticket: pattern: ")
    assert watching.watch.current is before
    assert watching.told == [False]


async def test_mended_rules_are_taken(watching: Watching, path: Path) -> None:
    async with watching.running(watching.watch.run):
        for text in (BAD, TWO):
            write(path, text)
            await watching.look()
    assert watching.pattern() == "ACME-[0-9]{5}"
    assert watching.told == [False, True]


async def test_a_file_that_is_gone_changes_nothing_and_is_told_once(
    watching: Watching, path: Path
) -> None:
    before = watching.watch.current
    async with watching.running(watching.watch.run):
        remove(path)
        (event,) = await watching.look()
        assert await watching.look() == []
        write(path, ONE)
        assert await watching.look() == []  # as it was
    assert event["event"] == "rules_refused"
    assert watching.watch.current is before
    assert watching.told == [False]


async def test_a_file_that_comes_to_a_directory_is_taken(tmp_path: Path, path: Path) -> None:
    watching = Watching(tmp_path)
    async with watching.running(watching.watch.run):
        write(tmp_path / "more.yaml", ONE.replace("acme", "more"))
        await watching.look()
    assert {"acme", "more"} <= set(watching.watch.current.packs)


async def test_without_files_there_is_nothing_to_watch() -> None:
    watching = Watching(None)
    await watching.watch.run()
    assert watching.slept == []
    assert "default" in watching.watch.current.profiles


def test_a_watch_does_not_begin_with_bad_rules(path: Path) -> None:
    write(path, BAD)
    with pytest.raises(RulesRefused, match=r"own\.yaml: rule ticket"):
        RulebookWatch(
            path, default_profile="default", reload_seconds=5.0, rules_reloaded=lambda _: None
        )
