"""Checkpoints in an object store: a small server checks what is asked, and by whom."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.audit.chain import ChainHead
from app.audit.checkpoints.checkpoint import Checkpoint, make_checkpoint
from app.audit.checkpoints.publisher import PlaceFailed
from app.audit.checkpoints.s3_place import S3Place
from app.audit.checkpoints.signing import derived_signing_keys

ACCESS_KEY, SECRET_KEY, REGION = "AKIDEXAMPLE", "secret of the test", "eu-central-1"
WRITER = "ab" * 16
NOT_SIGNED = {"authorization", "user-agent", "expect", "content-length", "accept-encoding"}


class ObjectStore(ThreadingHTTPServer):
    """Takes PUT from whoever signs with the secret key. `away` answers 503."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.away = False
        self.forgets_to_answer = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # botocore waits for "100 Continue"

    server: ObjectStore

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        store = self.server
        if self.headers["authorization"] != self._signature():
            return self._answer(403, "SignatureDoesNotMatch")
        if store.away:
            return self._answer(503, "SlowDown")
        assert self.headers["if-none-match"] == "*"
        if self.path in store.objects:
            return self._answer(412, "PreconditionFailed")
        store.objects[self.path] = body
        if store.forgets_to_answer:
            store.forgets_to_answer = False
            return self._answer(500, "InternalError")
        return self._answer(200)

    def _signature(self) -> str:
        """As botocore signs the same request."""
        request = AWSRequest("PUT", f"{self.server.url}{self.path}")
        for name, value in self.headers.items():
            if name.lower() not in NOT_SIGNED:
                request.headers[name] = value
        request.headers["Host"] = self.headers["host"]
        request.context["timestamp"] = self.headers["x-amz-date"]
        request.context["payload_signing_enabled"] = False
        signer = _Signer(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
        signed_names = self.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
        canonical = signer.canonical_of(request, signed_names.split(";"))
        return (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={signed_names}, "
            f"Signature={signer.signature(signer.string_to_sign(request, canonical), request)}"
        )

    def _answer(self, status: int, code: str = "") -> None:
        body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def canonical_of(self, request: AWSRequest, names: list[str]) -> str:
        headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
        path = self._normalize_url_path(urlsplit(request.url).path)
        content = request.headers["x-amz-content-sha256"]
        return "\n".join(["PUT", path, "", headers, ";".join(names), content])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield server
        server.shutdown()


@pytest.fixture
def place(store: ObjectStore) -> Iterator[S3Place]:
    place = S3Place(urlsplit("s3://bucket/some/prefix/"))
    yield place
    place.close()


def checkpoint(sequence: int, at: float = 1_700_000_000) -> Checkpoint:
    keys, head = derived_signing_keys(b"pepper"), ChainHead(sequence, bytes(32))
    return make_checkpoint(keys, WRITER, head, at=at, previous=None, register=None)


def test_each_is_an_object_of_its_own(store: ObjectStore, place: S3Place) -> None:
    place.publish(checkpoint(1))
    place.publish(checkpoint(2))

    assert store.objects == {
        f"/bucket/some/prefix/{WRITER}/1.json": checkpoint(1).payload,
        f"/bucket/some/prefix/{WRITER}/2.json": checkpoint(2).payload,
    }


def test_what_is_there_is_never_replaced_and_keeps_nothing_out(
    store: ObjectStore, place: S3Place
) -> None:
    """A chain that does not grow has several of one number; and somebody may have been quicker."""
    first = f"/bucket/some/prefix/{WRITER}/1.json"
    store.objects[first] = b"a stranger's"

    place.publish(checkpoint(1))

    assert store.objects.pop(first) == b"a stranger's"
    assert list(store.objects.values()) == [checkpoint(1).payload]


def test_one_whose_answer_was_lost_is_simply_given_again(
    store: ObjectStore, place: S3Place
) -> None:
    store.forgets_to_answer = True
    with pytest.raises(PlaceFailed):
        place.publish(checkpoint(1))

    place.publish(checkpoint(1))
    place.publish(checkpoint(1))

    assert set(store.objects.values()) == {checkpoint(1).payload}


def test_a_store_that_is_away_says_so(store: ObjectStore, place: S3Place) -> None:
    store.away = True

    with pytest.raises(PlaceFailed, match=r"^s3://bucket: .*SlowDown"):
        place.publish(checkpoint(1))

    assert store.objects == {}


def test_whoever_has_another_secret_is_refused(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    place = S3Place(urlsplit("s3://bucket"))

    with pytest.raises(PlaceFailed, match="SignatureDoesNotMatch"):
        place.publish(checkpoint(1))
    place.close()


def test_without_a_prefix_the_writers_come_first(store: ObjectStore) -> None:
    place = S3Place(urlsplit("s3://bucket"))
    place.publish(checkpoint(1))
    place.close()

    assert list(store.objects) == [f"/bucket/{WRITER}/1.json"]
