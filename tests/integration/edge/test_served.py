"""Requests that are unusual, and served."""

import json

import pytest

from tests.support.edge_server import (
    Edge,
    read_response,
    read_to_end,
    received,
    statuses,
)

POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_connection_serves_one_request_after_the_other(patient: Edge) -> None:
    with patient.connect() as client:
        for size in (0, 3, 100_000, 5):
            client.sendall(POST + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            status, headers, seen = read_response(client)
            assert (status, seen["size"]) == (200, size)
            assert "connection" not in headers


def test_a_request_byte_by_byte_is_the_same_request(patient: Edge) -> None:
    with patient.connect() as client:
        for byte in POST + b"Content-Length: 3\r\n\r\nabc":
            client.sendall(bytes([byte]))
        status, headers, seen = read_response(client)
        assert (status, seen["size"]) == (200, 3)
        assert "connection" not in headers
        client.sendall(POST + b"Content-Length: 1\r\n\r\nx")
        assert read_response(client)[2]["size"] == 1


@pytest.mark.parametrize("name", ["Authorization", "X-User-Id", "X-Forwarded-For", "Host"])
@pytest.mark.parametrize("apart", [False, True])
def test_trailers_never_become_headers(patient: Edge, name: str, *, apart: bool) -> None:
    trailer = b"0\r\n%s: 7\r\n\r\n" % name.encode()
    with patient.connect() as client:
        client.sendall(CHUNKED + b"1\r\nx\r\n" + (b"" if apart else trailer))
        if apart:
            client.sendall(trailer)
        status, _, seen = read_response(client)
        assert (status, seen["size"]) == (200, 1)
        assert ("7" in dict(seen["headers"]).values()) is False
        assert [value for header, value in seen["headers"] if header == "host"] == ["a"]
        client.sendall(POST + b"Content-Length: 0\r\n\r\n")
        assert read_response(client)[0] == 200


def test_many_one_byte_chunks_are_one_body(patient: Edge) -> None:
    with patient.connect() as client:
        client.sendall(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
        assert read_response(client)[2]["size"] == 100_000


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_a_load_balancers_check_may_speak_http_1_0_without_a_host(
    patient: Edge, path: bytes
) -> None:
    assert statuses(patient.ask(b"GET %s HTTP/1.0\r\n\r\n" % path)) == [200]


@pytest.mark.parametrize("host", [b"a", b"a.b:8080", b"127.0.0.1:1", b"[::1]", b"[::1]:443"])
def test_hosts_of_all_kinds_are_hosts(patient: Edge, host: bytes) -> None:
    with patient.connect() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
        assert read_response(client)[0] == 200


UPGRADES = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES.keys())
@pytest.mark.parametrize("apart", [False, True])
def test_an_upgrade_is_ignored_and_the_request_served(
    patient: Edge, upgrade: bytes, *, apart: bool
) -> None:
    head = POST + upgrade + b"Content-Length: 3\r\n\r\n"
    with patient.connect() as client:
        client.sendall(head + (b"" if apart else b"abc"))
        if apart:
            client.sendall(b"abc")
        status, _, seen = read_response(client)
        assert (status, seen["size"]) == (200, 3)
        assert "upgrade" not in dict(seen["headers"])


def test_100_is_said_when_the_body_is_read_and_not_before(patient: Edge) -> None:
    expecting = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    with patient.connect() as client:
        client.sendall(expecting % b"/x")
        assert received(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"x")
        assert read_response(client)[0] == 200
    assert statuses(patient.ask(expecting % b"/early")) == [401]  # and no 100


def test_an_answer_before_the_body_ends_the_connection(patient: Edge) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nx"
    answer = patient.ask(head)
    assert statuses(answer) == [401]
    assert b"connection: close\r\n" in answer


def test_an_answer_before_the_body_is_not_lost_by_who_sends_on(patient: Edge) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
    assert statuses(patient.ask(head, b"x" * 3_000_000)) == [401]


def test_a_body_longer_than_its_length_is_not_the_next_request(patient: Edge) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" + b"x" * 100_000
    with patient.connect() as client:
        client.sendall(POST + b"Content-Length: 10\r\n\r\n" + b"x" * 10 + smuggled)
        answer = read_to_end(client)
    assert statuses(answer) == [200]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["size"] == 10
    assert "/smuggled" not in patient.app.served


def test_a_request_during_a_stream_never_mixes_with_it(patient: Edge) -> None:
    with patient.connect() as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while b"data: 1" not in answer:
            answer += received(client)
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000)
        client.sendall(b"\x00 no http at all \x00")
        patient.release()
        answer += read_to_end(client)
    assert statuses(answer) == [200]
    body = answer.partition(b"\r\n\r\n")[2]
    assert body == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"
