"""The image's health check: a word for what is wrong, and an exit code."""

import http.server
import threading
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from app.health import main

POLL_SECONDS = 0.01  # between two looks at whether to end


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(
            HTTPStatus.OK if self.path == "/well" else HTTPStatus.SERVICE_UNAVAILABLE
        )
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer_of_200_is_well(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{server}/well"]) == 0
    assert capsys.readouterr().err == ""


def test_any_other_answer_is_told(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{server}/ill"]) == 1
    assert capsys.readouterr().err == f"{server}/ill: status 503\n"


def test_nobody_there_is_told(unused_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"http://127.0.0.1:{unused_port}/well"]) == 1
    assert "refused" in capsys.readouterr().err


def test_a_proxy_in_the_environment_is_not_asked(
    server: str, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port}")
    assert main([f"{server}/well"]) == 0


@pytest.mark.parametrize("arguments", [["file:///etc/passwd"], ["http://a", "http://b"]])
def test_what_cannot_be_asked_is_refused(arguments: list[str]) -> None:
    assert main(arguments) == 2
