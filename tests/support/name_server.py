"""A name server for one machine's own resolver: it says what a test tells it to."""

import ipaddress
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
UDP_BYTES = 512  # of an answer; a longer one is said to be cut off, and asked for again over TCP


@dataclass
class NameServer:
    """`addresses` by name, IPv4 and IPv6; `failing` are record types that it has trouble with."""

    addresses: dict[str, Sequence[str]] = field(default_factory=dict)
    failing: set[int] = field(default_factory=set)
    over_tcp: int = 0

    def start(self, host: str = "127.0.0.1", port: int = 53) -> None:
        """Listens in threads that end with the process."""
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((host, port))
        listener = socket.create_server((host, port))
        for serve, on in ((self._serve_datagrams, datagrams), (self._serve_streams, listener)):
            threading.Thread(target=serve, args=(on,), daemon=True).start()

    def answer(self, query: bytes) -> bytes:
        number, question, name, kind = _read(query)
        if kind in self.failing:
            return _answer(number, question, SERVER_FAILURE, [])
        if name not in self.addresses:
            return _answer(number, question, NO_SUCH_NAME, [])
        version = 4 if kind == A else 6
        found = [ipaddress.ip_address(text) for text in self.addresses[name]]
        records = [each.packed for each in found if each.version == version]
        return _answer(number, question, NO_ERROR, records if kind in (A, AAAA) else [])

    def _serve_datagrams(self, datagrams: socket.socket) -> None:
        while True:
            query, sender = datagrams.recvfrom(4096)
            answer = self.answer(query)
            if len(answer) > UDP_BYTES:
                number, question, _, _ = _read(query)
                answer = _answer(number, question, NO_ERROR, [], cut_off=True)
            datagrams.sendto(answer, sender)

    def _serve_streams(self, listener: socket.socket) -> None:
        while True:
            stream, _ = listener.accept()
            with stream, stream.makefile("rb") as reader:
                while head := reader.read(2):
                    self.over_tcp += 1
                    answer = self.answer(reader.read(*struct.unpack("!H", head)))
                    stream.sendall(struct.pack("!H", len(answer)) + answer)


def _read(query: bytes) -> tuple[int, bytes, str, int]:
    """Its number, its question as it stands, and of that the name and the record type."""
    (number,) = struct.unpack_from("!H", query)
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", query, at + 1)
    return number, query[12 : at + 5], ".".join(labels), kind


def _answer(
    number: int, question: bytes, code: int, records: Sequence[bytes], *, cut_off: bool = False
) -> bytes:
    flags = 0x8180 | (0x0200 if cut_off else 0) | code  # a response, recursion wanted and there
    answer = struct.pack("!6H", number, flags, 1, len(records), 0, 0) + question
    for packed in records:
        kind = A if len(packed) == 4 else AAAA
        answer += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed
    return answer
