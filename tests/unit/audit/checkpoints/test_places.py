import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import Checkpoint, make_checkpoint, parse_checkpoint
from app.audit.checkpoints.file_place import FilePlace
from app.audit.checkpoints.places import checkpoint_file, place_of
from app.audit.checkpoints.publisher import PlaceFailed
from app.audit.checkpoints.s3_place import S3Place
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.checkpoints.syslog_place import SyslogPlace
from app.settings import SettingsError

KEYS = derived_signing_keys(b"pepper")


def checkpoint(sequence: int) -> Checkpoint:
    head = ChainHead(sequence, bytes(32))
    return make_checkpoint(KEYS, "ab" * 16, head, at=1_700_000_000, previous=None, register=None)


def test_a_file_gets_a_line_for_each_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    one, other = FilePlace(path), FilePlace(path)

    for number in (1, 2):
        one.publish(checkpoint(number))
        other.publish(checkpoint(number))

    lines = path.read_bytes().splitlines()
    assert [parse_checkpoint(line).sequence for line in lines] == [1, 1, 2, 2]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    place = FilePlace(path)
    place.publish(checkpoint(1))
    path.rename(tmp_path / "archived")

    place.publish(checkpoint(2))

    assert parse_checkpoint(path.read_bytes().strip()).sequence == 2


def test_a_file_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(PlaceFailed, match="No such file or directory"):
        FilePlace(tmp_path / "missing" / "checkpoints.jsonl").publish(checkpoint(1))


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PlaceFailed):
        FilePlace(tmp_path / "link").publish(checkpoint(1))

    assert not (tmp_path / "elsewhere").exists()


def test_a_line_that_a_full_disk_cut_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints.jsonl"
    place = FilePlace(path)
    real_write = __import__("os").write
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda descriptor, data: real_write(descriptor, data[:20]))
        with pytest.raises(PlaceFailed):
            place.publish(checkpoint(1))

    place.publish(checkpoint(1))

    assert parse_checkpoint(path.read_bytes().splitlines()[-1]).sequence == 1


def test_a_local_syslog_gets_it_as_the_c_library_would_send_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        with closing(SyslogPlace(urlsplit(f"syslog://{path}"))) as place:
            place.publish(checkpoint(1))
        message = listener.recv(65536)

    assert message == b"<85>qwythos-audit: " + checkpoint(1).payload


def test_a_syslog_over_udp_gets_it_as_rfc_5424_says() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with closing(SyslogPlace(urlsplit(f"syslog://127.0.0.1:{port}"))) as place:
            place.publish(checkpoint(1))
        message = listener.recv(65536)

    header, _, payload = message.partition(b" - - - ")
    assert header.startswith(b"<85>1 2023-11-14T22:13:20.000000Z ")
    assert payload == checkpoint(1).payload


def test_a_syslog_over_tcp_gets_a_line_for_each_and_is_found_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = SyslogPlace(urlsplit(f"syslog+tcp://127.0.0.1:{listener.getsockname()[1]}"))
        place.publish(checkpoint(1))
        place.publish(checkpoint(2))
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            received = [parse_checkpoint(lines.readline().partition(b" - - - ")[2].strip())]
            received.append(parse_checkpoint(lines.readline().partition(b" - - - ")[2].strip()))
        assert [each.sequence for each in received] == [1, 2]

        with pytest.raises(PlaceFailed):  # the peer's end is told by a send, or by the one after
            for _ in range(100):
                place.publish(checkpoint(3))

        place.publish(checkpoint(4))
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            assert lines.readline().partition(b" - - - ")[2].strip() == checkpoint(4).payload
        place.close()


def test_a_syslog_that_is_away_says_why(tmp_path: Path) -> None:
    with pytest.raises(PlaceFailed, match="No such file"):
        SyslogPlace(urlsplit(f"syslog://{tmp_path}/log")).publish(checkpoint(1))


def test_a_syslog_is_told_of_by_host_and_port() -> None:
    with closing(SyslogPlace(urlsplit("syslog://127.0.0.1"))) as place:
        assert place.reach().startswith("127.0.0.1:514 has an address")


def test_without_a_setting_it_is_a_file_in_the_audit_directory(tmp_path: Path) -> None:
    place_of(None, tmp_path).publish(checkpoint(1))

    assert orjson.loads((tmp_path / "checkpoints.jsonl").read_bytes())["sequence"] == 1
    assert checkpoint_file(None, tmp_path) == tmp_path / "checkpoints.jsonl"


def test_each_form_of_the_setting_names_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    assert isinstance(place_of(f"file://{tmp_path}/a%20b", tmp_path), FilePlace)
    assert checkpoint_file(f"file://{tmp_path}/a%20b", tmp_path) == tmp_path / "a b"
    assert isinstance(place_of("syslog:///dev/log", tmp_path), SyslogPlace)
    assert isinstance(place_of("syslog://logs.internal", tmp_path), SyslogPlace)
    assert isinstance(place_of("syslog+tcp://logs.internal:6514", tmp_path), SyslogPlace)
    assert isinstance(place_of("s3://bucket/some/prefix", tmp_path), S3Place)
    assert checkpoint_file("s3://bucket/some/prefix", tmp_path) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "checkpoints.jsonl",
        "/var/log/checkpoints.jsonl",
        "file://",
        "file:///",
        "file:///directory/",
        "file://host/path",
        "file:///there/is/no/such/directory/checkpoints.jsonl",
        "syslog://",
        "syslog://host:port",
        "syslog://host/path",
        "syslog+tcp:///dev/log",
        "s3://",
        "s3://user@bucket",
        "s3://bucket?versioned",
        "https://bucket.example/prefix",
    ],
)
def test_what_names_no_place_is_refused_with_the_name_of_the_setting(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"^GATEWAY_AUDIT_CHECKPOINTS: \S"):
        place_of(url, tmp_path)
