"""The key of a worker, in a file that is mounted, and its URL, which names it."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from app.settings.worker import Worker, WorkerSettings

URL = "http://vllm:8000"
written: TypeAdapter[WorkerSettings] = TypeAdapter(Worker)


def test_a_key_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k-1\n")
    for value in ({"url": URL, "api_key_file": path}, f'{{"url":"{URL}","api_key_file":"{path}"}}'):
        worker = written.validate_python(value)
        assert worker.api_key is not None
        assert worker.api_key.get_secret_value() == "k-1"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot read .*: No such file"), (b" \n", "is empty"), (b"\xff", "UTF-8")],
)
def test_a_file_without_a_key_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValidationError, match=reason):
        written.validate_python({"url": URL, "api_key_file": str(path)})


def test_a_key_is_given_in_one_way() -> None:
    with pytest.raises(ValidationError, match="give it one of them"):
        written.validate_python({"url": URL, "api_key": "k", "api_key_file": "/k"})
    with pytest.raises(ValidationError, match="must be a path"):
        written.validate_python({"url": URL, "api_key_file": 1})


@pytest.mark.parametrize("behind", ["?api_key=wq1234567890", "?", "#wq1234567890"])
def test_a_url_with_room_for_a_key_is_refused(behind: str) -> None:
    for value in (URL + "/v1" + behind, {"url": URL + behind}):
        with pytest.raises(ValidationError, match="a key belongs in api_key") as refused:
            written.validate_python(value)
        assert "must end with its path" in refused.value.errors()[0]["msg"]
