import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.settings.worker import Engine
from app.telemetry.metrics import Metrics
from app.upstream.membership.changes import Membership
from app.upstream.membership.file import (
    MAX_FILE_BYTES,
    WorkersFile,
    WorkersRefused,
    parse_workers,
    read_file,
)
from app.upstream.pool import Pool
from tests.support.rounds import Rounds

ONE = '["http://w0:8000"]'
TWO = "- http://w0:8000\n- url: http://w1:8000\n  engine: sglang\n  api_key: a-secret\n"


class Following:
    def __init__(self, path: Path) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry).pool
        self.pool = Pool(())
        self.rounds = Rounds()
        self.file = WorkersFile(
            path,
            Membership(self.pool, metrics),
            metrics,
            reload_seconds=5.0,
            sleep=self.rounds.sleep,
        )
        self.file.take()
        self.running = self.rounds.running(self.file.run)

    @property
    def names(self) -> list[str]:
        return [endpoint.name for endpoint in self.pool.endpoints]

    def read(self, outcome: str) -> float | None:
        labels = {"source": "file", "outcome": outcome}
        return self.registry.get_sample_value("gateway_worker_lists_read_total", labels)

    async def events(self) -> list[str]:
        """Of two looks: a change is taken at the second that sees it."""
        logs = await self.rounds.look() + await self.rounds.look()
        return [log["event"] for log in logs if log["event"] != "pool_changed"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "workers.yaml"
    path.write_text(ONE)
    return path


@pytest.fixture
async def following(path: Path) -> Following:
    return Following(path)


async def test_a_changed_list_is_taken(following: Following, path: Path) -> None:
    async with following.running:
        assert following.names == ["w0:8000"]
        before = following.pool.endpoints[0]
        write(path, TWO)
        assert await following.events() == ["workers_file_taken"]
        assert following.names == ["w0:8000", "w1:8000"]
        assert following.pool.endpoints[0] is before
        write(path, '["http://w1:8000"]')
        await following.events()
        assert following.names == ["w1:8000"]
    assert (following.read("taken"), following.read("refused")) == (2, 0)
    assert set(following.rounds.slept) == {5.0}


async def test_what_is_still_being_written_is_not_taken(following: Following, path: Path) -> None:
    """Cut off between two entries it is a list, too."""
    write(path, TWO)
    async with following.running:
        await following.events()
        write(path, TWO.splitlines()[0])
        assert await following.rounds.look() == []
        write(path, TWO)
        assert await following.events() == []
        assert following.names == ["w0:8000", "w1:8000"]


@pytest.mark.parametrize(
    "text", ["", "[]", "[http://w0:8000, {url: http://w1:8000, engine: vlllm}]", "- ]"]
)
async def test_a_list_that_is_bad_in_part_is_refused_as_a_whole_and_told_once(
    following: Following, path: Path, text: str
) -> None:
    async with following.running:
        write(path, text)
        assert await following.events() == ["workers_file_refused"]
        assert await following.events() == []
        assert following.names == ["w0:8000"]
        write(path, TWO)
        assert await following.events() == ["workers_file_taken"]
    assert following.read("refused") == 1


async def test_a_file_that_is_gone_changes_nothing_and_is_told_once(
    following: Following, path: Path
) -> None:
    async with following.running:
        remove(path)
        assert await following.events() == ["workers_file_refused"]
        assert following.names == ["w0:8000"]
        write(path, ONE)
        assert await following.events() == []


async def test_a_configmap_that_is_swapped_is_seen(tmp_path: Path) -> None:
    """As the kubelet does it: a link to a directory is replaced."""
    for version, text in (("v1", ONE), ("v2", TWO)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "workers.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "workers.yaml").symlink_to("..data/workers.yaml")
    following = Following(tmp_path / "workers.yaml")
    async with following.running:
        await asyncio.to_thread(swap, tmp_path)
        await following.events()
    assert following.names == ["w0:8000", "w1:8000"]


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def swap(directory: Path) -> None:
    (directory / "..new").symlink_to("v2")
    (directory / "..new").rename(directory / "..data")


def test_json_and_yaml_say_the_same() -> None:
    json_text = b'["http://w0:8000", {"url": "http://w1:8000", "engine": "sglang", "api_key": "k"}]'
    yaml_text = b"- http://w0:8000\n- {url: 'http://w1:8000', engine: sglang, api_key: k}\n"
    assert parse_workers(json_text) == parse_workers(yaml_text)
    assert parse_workers(yaml_text)["w1:8000"].engine is Engine.SGLANG


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "must be a list of workers"),
        (b"{}", "must be a list of workers"),
        (b"[]", "names no worker"),
        (b"- http://w:1\n- http://w:1/v1\n", "names w:1 twice"),
        (b"- http://user:secret@w:1\n- {url: http://w:1, api_key: secret}", "names w:1 twice"),
        (b"- secret", r"\[0\]\[url\]: input should be a valid URL"),
        (b"- {url: 'http://w:1', key: secret}", r"\[0\]\[key\]: is not a setting of a worker"),
        (b"- {url: 'http://w:1', engine: secret}", r"\[0\]\[engine\]: input should be 'vllm'"),
        (b"- url: http://w:1\n  api_key: 'secret\n", "line 3: found unexpected end of stream"),
        (b"- {url: 'http://w:1', api_key: secret, : }}", "is neither JSON nor YAML: line 1"),
        (b"\xff\xfe\x00secret", "is neither JSON nor YAML"),
        (b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_secrets(text: bytes, reason: str) -> None:
    with pytest.raises(WorkersRefused, match=reason) as caught:
        parse_workers(text)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkersRefused, match=r"cannot read .*: No such file"):
        read_file(tmp_path / "none")
    (tmp_path / "large").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(WorkersRefused, match="has more than"):
        read_file(tmp_path / "large")
