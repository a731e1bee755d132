"""Requests that no two servers would read alike, or that are too large: 4xx, and closed."""

import pytest

from tests.support.edge_server import Edge, assert_refused, edge, read_to_end, statuses

POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

NOT_HTTP = {
    "length and chunked": POST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\nx",
    "a signed length": POST + b"Content-Length: +1\r\n\r\nx",
    "a negative length": POST + b"Content-Length: -1\r\n\r\nx",
    "a length in hex": POST + b"Content-Length: 0x1\r\n\r\nx",
    "a length beyond 64 bits": POST + b"Content-Length: 100000000000000000000\r\n\r\nx",
    "chunked is not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked is not alone": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bare line feeds": b"GET /x HTTP/1.1\nHost: a\n\n",
    "a folded header": b"GET /x HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "a bare return in a value": b"GET /x HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    "NUL in a value": b"GET /x HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n",
    "a space in a name": b"GET /x HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n",
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "no host in HTTP/1.0": b"GET /x HTTP/1.0\r\n\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "an empty host": b"GET /x HTTP/1.1\r\nHost:\r\n\r\n",
    "a host with a query": b"GET /x HTTP/1.1\r\nHost: a/?x=\r\n\r\n",
    "a host with a fragment": b"GET /x HTTP/1.1\r\nHost: a/#\r\n\r\n",
    "a host in UTF-8": b"GET /x HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n",
    "a port that is none": b"GET /x HTTP/1.1\r\nHost: a:99999\r\n\r\n",
    "a host with a user": b"GET /x HTTP/1.1\r\nHost: b@a\r\n\r\n",
    "HTTP/0.9": b"GET /x\r\n\r\n",
    "HTTP/1.2": b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "a URL without a path": b"GET http://evil HTTP/1.1\r\nHost: a\r\n\r\n",
}


IN_THE_BODY = {
    "a chunk beyond 64 bits": b"ffffffffffffffffff\r\n",
    "a chunk size that is no number": b"x\r\n",
    "a length in the trailers": b"0\r\nContent-Length: 7\r\n\r\n",
}


@pytest.mark.parametrize("sent", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_what_is_not_http_is_refused_before_the_application(patient: Edge, sent: bytes) -> None:
    assert_refused(patient.ask(sent.replace(b"/x", b"/refused")), 400)
    assert "/refused" not in patient.app.served


@pytest.mark.parametrize("sent", IN_THE_BODY.values(), ids=IN_THE_BODY.keys())
def test_a_body_that_is_not_http_is_refused(patient: Edge, sent: bytes) -> None:
    assert_refused(patient.ask(CHUNKED + b"\r\n" + sent), 400)


def test_a_tunnel_is_not_a_method_here(patient: Edge) -> None:
    assert_refused(patient.ask(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 405)


TOO_LARGE = {
    "one header, one packet": (POST + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many small headers": (POST + b"X-Y: b\r\n" * 101 + b"\r\n", 431),
    "20,000 headers": (POST + b"X: b\r\n" * 20_000 + b"\r\n", 431),
    "1 MB": (POST + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
    "few large headers": (POST + (b"X: " + b"a" * 9_000 + b"\r\n") * 4 + b"\r\n", 431),
    "1 MB of URL": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "9 KB of query": (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
}


@pytest.mark.parametrize(("sent", "status"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_a_head_that_is_too_large_is_refused(patient: Edge, sent: bytes, status: int) -> None:
    assert_refused(patient.ask(sent.replace(b"/x", b"/refused")), status)
    assert "/refused" not in patient.app.served


def test_an_endless_header_is_refused_long_before_its_end(patient: Edge) -> None:
    with patient.connect() as client:
        client.sendall(POST + b"X: ")
        taken = 0
        try:
            while taken < 50_000_000:
                client.sendall(b"a" * 65536)
                taken += 65536
        except ConnectionError:
            pass
        # What is dropped and what the kernels hold: far less than was meant to come.
        assert taken < 20_000_000


def test_a_large_head_within_the_limit_is_served(patient: Edge) -> None:
    with patient.connect() as client:
        client.sendall(POST + b"X: " + b"a" * 20_000 + b"\r\nConnection: close\r\n\r\n")
        assert statuses(read_to_end(client)) == [200]


def test_endless_trailers_are_refused(patient: Edge) -> None:
    trailers = b"X: " + b"a" * 100_000
    assert_refused(patient.ask(CHUNKED + b"\r\n1\r\nx\r\n0\r\n", *[trailers] * 5), 431)


def test_many_trailers_are_refused(patient: Edge) -> None:
    answer = patient.ask(CHUNKED + b"\r\n1\r\nx\r\n0\r\n" + b"X: abcdefgh\r\n" * 10_000 + b"\r\n")
    assert_refused(answer, 431)


def test_more_connections_than_allowed_are_told_so_and_checks_are_not() -> None:
    with edge(max_connections=10) as full:
        held = [full.connect() for _ in range(10)]
        assert_refused(full.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), 503)
        alive = full.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert statuses(alive) == [200]
        for client in held:
            client.close()
