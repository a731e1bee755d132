import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.embedded.dev_secrets import dev_pepper, dev_sealing_key


def test_a_pepper_is_made_once_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    pepper = dev_pepper(home)
    assert len(base64.b64decode(pepper)) == 32
    assert dev_pepper(home) == pepper
    assert [path.name for path in home.iterdir()] == ["pepper"]


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    dev_pepper(tmp_path)
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600


def test_all_who_come_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        peppers = set(threads.map(lambda _: dev_pepper(tmp_path), range(64)))
    assert len(peppers) == 1


def test_an_empty_file_is_no_pepper(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text("\n", "ascii")
    with pytest.raises(ValueError, match="is empty"):
        dev_pepper(tmp_path)


def test_different_homes_have_different_peppers(tmp_path: Path) -> None:
    assert dev_pepper(tmp_path / "a") != dev_pepper(tmp_path / "b")


def test_the_sealing_key_is_a_secret_of_its_own(tmp_path: Path) -> None:
    key = dev_sealing_key(tmp_path)
    assert len(base64.b64decode(key)) == 32
    assert key == dev_sealing_key(tmp_path) != dev_pepper(tmp_path)
