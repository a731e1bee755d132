"""Clients that are slow: with their headers, with their body, with taking their answer."""

import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.edge_server import (
    WAIT_SECONDS,
    Edge,
    assert_refused,
    edge,
    read_response,
    read_to_end,
    statuses,
)

POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
SENDING_PAUSE_SECONDS = 0.05


@pytest.fixture(scope="module")
def hasty() -> Iterator[Edge]:
    with edge(
        header_deadline_seconds=0.4,
        body_deadline_seconds=0.4,
        body_floor_bytes_per_second=1000,
        keep_alive_seconds=0.6,
        client_stall_seconds=0.5,
    ) as served:
        yield served


def dribble(hasty: Edge, first: bytes, byte: bytes) -> bytes:
    """Sends `byte` again and again until the server closes."""
    pause = threading.Event()
    with hasty.connect() as client:
        client.sendall(first)
        answer: list[bytes] = []
        reader = threading.Thread(target=lambda: answer.append(read_to_end(client)))
        reader.start()
        while reader.is_alive():
            try:
                client.sendall(byte)
            except ConnectionError:
                break
            pause.wait(SENDING_PAUSE_SECONDS)
        reader.join(WAIT_SECONDS)
        return answer[0]


def test_silence_is_closed_in_silence(hasty: Edge) -> None:
    assert hasty.ask() == b""


def test_line_ends_alone_are_silence(hasty: Edge) -> None:
    assert hasty.ask(b"\r\n") == b""


def test_half_a_header_gets_408(hasty: Edge) -> None:
    assert_refused(hasty.ask(b"POST /x HTTP/1.1\r\nHo"), 408)


def test_headers_byte_by_byte_get_408(hasty: Edge) -> None:
    assert_refused(dribble(hasty, POST + b"X: ", b"a"), 408)


def test_half_a_header_on_a_used_connection_gets_408(hasty: Edge) -> None:
    with hasty.connect() as client:
        client.sendall(POST + b"Content-Length: 1\r\n\r\nx")
        assert read_response(client)[0] == 200
        client.sendall(b"POST /x HT")
        assert_refused(read_to_end(client), 408)


def test_an_idle_connection_is_closed_in_silence(hasty: Edge) -> None:
    with hasty.connect() as client:
        client.sendall(POST + b"Content-Length: 1\r\n\r\nx")
        assert read_response(client)[0] == 200
        assert read_to_end(client) == b""


def test_line_ends_do_not_keep_a_used_connection(hasty: Edge) -> None:
    head = POST + b"Content-Length: 0\r\n\r\n"
    answer = dribble(hasty, head, b"\r\n")
    assert statuses(answer) == [200]


def test_half_a_body_gets_408_and_the_application_learns_of_it(hasty: Edge) -> None:
    hasty.app.left.clear()
    assert_refused(hasty.ask(POST + b"Content-Length: 1000\r\n\r\nabc"), 408)
    wait_until(lambda: hasty.app.left == ["/x"])


def test_a_body_below_the_floor_gets_408(hasty: Edge) -> None:
    assert_refused(dribble(hasty, POST + b"Content-Length: 100000\r\n\r\n", b"a"), 408)


def test_a_body_above_the_floor_has_the_time_it_needs(hasty: Edge) -> None:
    """At 2,000 bytes a second where 1,000 are asked, for five times the deadline. What comes at
    first is time for a machine that stands still."""
    pause = threading.Event()
    with hasty.connect() as client:
        client.sendall(POST + b"Content-Length: 14000\r\n\r\n")
        client.sendall(b"x" * 10_000)
        for _ in range(40):
            client.sendall(b"x" * 100)
            pause.wait(SENDING_PAUSE_SECONDS)
        assert read_response(client)[2]["size"] == 14_000


def test_the_time_in_which_the_application_does_not_read_is_not_the_clients(hasty: Edge) -> None:
    hasty.loop.call_soon_threadsafe(hasty.app.release.clear)
    with hasty.connect() as client:
        client.sendall(b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n")
        client.sendall(b"x" * 390_000)
        timer = threading.Timer(1.2, hasty.release)
        timer.start()
        timer.join()
        client.sendall(b"x" * 10_000)
        assert read_response(client)[2]["size"] == 400_000


def test_a_client_that_stops_reading_is_cut_and_its_output_bounded(hasty: Edge) -> None:
    hasty.app.left.clear()
    with hasty.connect(receive_buffer_bytes=4096) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: hasty.app.left == ["/flood"])
        assert hasty.app.flooded_bytes < 16_000_000


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_SECONDS / SENDING_PAUSE_SECONDS)):
        if condition():
            return
        pause.wait(SENDING_PAUSE_SECONDS)
    raise AssertionError("it did not come true in time")
