from pathlib import Path

import pytest

from app.embedded.errors import EmbeddedError
from app.embedded.model import choose_model, threads_for


def test_the_stand_in_is_used_where_no_model_is_given() -> None:
    model = choose_model(None)
    assert model.stand_in
    assert model.name == "SmolLM2-135M-Instruct"
    assert model.chat_template
    assert threads_for(model) == 1


def test_a_model_of_ones_own_keeps_its_own_template(tmp_path: Path) -> None:
    path = tmp_path / "Qwythos-9B.gguf"
    path.write_bytes(b"GGUF")
    model = choose_model(path)
    assert not model.stand_in
    assert model.chat_template == ""
    assert model.name == "Qwythos-9B"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"{}")
    with pytest.raises(EmbeddedError, match="is not a GGUF file"):
        choose_model(path)
