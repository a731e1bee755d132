import pytest

from app.cli.smoke_display import PlainDisplay, TerminalDisplay, progress_words
from app.smoke.progress import Running


def test_seconds_are_counted_while_nothing_is_known() -> None:
    words = progress_words(Running("32k", 32_768, 1_226.0), 12.4)
    assert words == "32k        reading 32k tokens, 12 s (gives up after 1226 s)"


def test_a_bar_fills_up_to_when_the_first_token_may_come() -> None:
    running = Running("64k", 65_536, 1_300.0, expected_seconds=40.0)
    assert "[#####---------------] 10 s of perhaps 40 s" in progress_words(running, 10.0)
    assert "[####################] 90 s of perhaps 40 s" in progress_words(running, 90.0)


def test_tokens_are_counted_once_they_come() -> None:
    running = Running("64k", 65_536, 1_300.0, expected_seconds=40.0, pieces=84)
    assert progress_words(running, 50.0) == "64k        84 tokens, 50 s"


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    running = Running("32k", 32_768, 1_226.0)
    for second in range(32):
        display.show(running, float(second))
    display.clear()
    display.show(running, 14.0)
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "15 s (gives up after 1226 s)",
        "30 s (gives up after 1226 s)",
    ]


def test_a_terminal_has_one_line_that_is_cleared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    display = TerminalDisplay()
    display.show(Running("32k", 32_768, 1_226.0), 1.0)
    display.clear()
    shown = capsys.readouterr().err
    assert shown.startswith("\r\x1b[K32k")
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown
    assert len(shown) == 39 + 2 * len("\r\x1b[K")  # a longer one would wrap
