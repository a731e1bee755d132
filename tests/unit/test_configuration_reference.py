"""docs/configuration.md says all that the settings say, and what they say now."""

from pathlib import Path

import pytest

from app.cli.config_reference import own, reference
from app.settings import Settings
from app.settings.forms import Theme
from app.settings.worker import WorkerSettings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
THEMES = [theme for theme in Settings.__mro__ if issubclass(theme, Theme)]


def test_the_page_is_current() -> None:
    hint = "run `gateway config reference > docs/configuration.md`"
    assert PAGE.read_text() == reference(Settings), hint


@pytest.mark.parametrize("model", [Settings, WorkerSettings])
def test_each_setting_says_what_it_means(model: type[Settings] | type[WorkerSettings]) -> None:
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert silent == []


def test_each_setting_has_one_theme() -> None:
    named = [name for theme in THEMES for name in own(theme)]
    assert sorted(named) == sorted(Settings.model_fields)


def test_each_setting_is_on_the_page_under_both_its_names() -> None:
    page = reference(Settings)
    for name in Settings.model_fields:
        assert f"| `GATEWAY_{name.upper()}`" in page
        assert f"<br>`{name}` |" in page


def test_a_row_has_its_unit_its_bounds_and_its_default() -> None:
    page = reference(Settings)
    row = next(line for line in page.splitlines() if "`redis_timeout_seconds`" in line)
    assert "| seconds, above 0, at most 1 | `0.075` |" in row
    row = next(line for line in page.splitlines() if "`max_body_bytes`" in line)
    assert "| `33554432` (32 MiB) |" in row
