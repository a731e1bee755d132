"""The names of OpenTelemetry's conventions for generative AI, which still change, stand once."""

from pathlib import Path

import app

MODULE = Path("telemetry", "genai.py")


def test_they_stand_in_one_module() -> None:
    root = Path(app.__file__).parent
    found = {
        path.relative_to(root)
        for path in root.rglob("*.py")
        if '"gen_ai.' in path.read_text("utf-8")
    }
    assert found == {MODULE}
