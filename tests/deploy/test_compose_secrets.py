"""deploy/compose/secrets.sh: every secret of docker-compose.yml, by chance, and kept."""

import shutil
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.audit.checkpoints.signing import parse_signing_keys
from app.protocol.sealed import parse_sealing_keys
from tests.deploy.compose import ROOT, document


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "deploy" / "compose" / "secrets.sh", tmp_path)
    return tmp_path


def made(directory: Path) -> dict[str, str]:
    subprocess.run([directory / "secrets.sh"], stdout=subprocess.DEVNULL, check=True)
    return {path.name: path.read_text("ascii") for path in (directory / "secrets").iterdir()}


def test_it_makes_every_file_that_compose_mounts(directory: Path) -> None:
    files = {Path(each["file"]) for each in document()["secrets"].values()}
    assert {file.parent for file in files} == {Path("deploy/compose/secrets")}
    assert {file.name for file in files} <= set(made(directory))


def test_each_is_one_that_the_gateway_takes_and_fits_the_others(directory: Path) -> None:
    secrets = {name: value.strip() for name, value in made(directory).items()}
    assert len(parse_sealing_keys(secrets["sealing_key"])) == 1
    assert parse_signing_keys(secrets["audit_signing_key"])
    for name, password in (
        ("database_url", "database_password"),
        ("owner_database_url", "owner_password"),
        ("redis_url", "redis_password"),
    ):
        assert urlsplit(secrets[name]).password == secrets[password]
    assert secrets["redis_conf"] == f"requirepass {secrets['redis_password']}"


def test_no_two_are_alike(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(directory / "secrets.sh", other)
    values = [*made(directory).values(), *made(other).values()]
    assert len(set(values)) == len(values)


def test_what_is_there_stays(directory: Path) -> None:
    before = made(directory)
    (directory / "secrets" / "admin_token").unlink()
    after = made(directory)
    assert after["admin_token"] != before["admin_token"]
    assert after | {"admin_token": ""} == before | {"admin_token": ""}


def test_others_on_this_machine_do_not_get_at_them(directory: Path) -> None:
    """Users of containers do: each is mounted alone, past the directory."""
    made(directory)
    assert stat.S_IMODE((directory / "secrets").stat().st_mode) == 0o700
    for path in (directory / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_they_are_kept_out_of_git() -> None:
    ignored = (ROOT / "deploy" / "compose" / ".gitignore").read_text("utf-8").splitlines()
    assert "secrets/" in ignored
