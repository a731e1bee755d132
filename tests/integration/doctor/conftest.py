from collections.abc import Callable
from pathlib import Path

import pytest

from app.doctor.visit import Visit
from tests.integration.doctor.visiting import visit_of

MakeVisit = Callable[..., Visit]


@pytest.fixture
def visit(tmp_path: Path) -> MakeVisit:
    """`visit(setting=value, ...)`: an examination of a gateway with these settings."""
    return lambda **settings: visit_of(tmp_path, **settings)
