"""The requests that have no outcome, as the frames of a spool say in their order, and what was kept
of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.audit.content.nodes import ADDRESS_BYTES, ROOT
from app.audit.records import AuditIntent
from app.audit.spool.frames import FrameKind
from app.audit.spool.payloads import (
    ChunkPayload,
    PayloadUnreadable,
    decode_body,
    decode_chunk,
    decode_intent,
    request_id_of,
)
from app.protocol.request import Json
from app.protocol.transcript import Transcript

# Of one request, in the frames that hold it: some 250,000 tokens. More than a worker says within
# the seconds between two looks at a dead process, and little enough for a thousand of them.
MAX_ANSWER_BYTES = 1024 * 1024
MAX_CHOICES = 128  # of an answer; no request may ask for more


class PartialAnswer:
    """What an answer had said up to its last chunk. Behind MAX_ANSWER_BYTES it is `truncated`."""

    def __init__(self, first: ChunkPayload) -> None:
        """Raises PayloadUnreadable for a parent that is no address."""
        self.tenant = first.tenant
        self.parent = _address(first.parent)
        self.truncated = False
        self._transcript = Transcript(0)
        self._thoughts: dict[int, str] = {}
        self._said: set[int] = set()  # the choices
        self._size_bytes = 0

    def feed(self, chunk: ChunkPayload, size_bytes: int) -> None:
        """Raises PayloadUnreadable for a chunk that is not as a Transcript gives it."""
        self.truncated = self.truncated or self._size_bytes + size_bytes > MAX_ANSWER_BYTES
        if self.truncated:
            return
        self._size_bytes += size_bytes
        choices = {_choice(name) for name in (*chunk.choices, *chunk.thoughts)}
        try:
            for name, thought in chunk.thoughts.items():
                self._thoughts[int(name)] = self._thoughts.get(int(name), "") + thought
            self._transcript.retell(chunk.choices)
        except (TypeError, ValueError, KeyError) as error:
            raise PayloadUnreadable(f"no chunk: {error}") from error
        self._said |= choices

    def messages(self) -> Mapping[int, Json]:
        """By choice, of those that had said something."""
        messages = self._transcript.messages(self._thoughts)
        return {choice: messages[choice] for choice in sorted(self._said & messages.keys())}


@dataclass(slots=True)
class OpenRequest:
    """`intent` is None where nothing but the request can be told; `content` is as its outcome
    would have it."""

    request_id: str
    intent: AuditIntent | None
    content: dict[str, Any] | None = None
    answer: PartialAnswer | None = None


class OpenRequests:
    """Fed with the frames of all segments, in order."""

    def __init__(self) -> None:
        self._open: dict[str, OpenRequest] = {}
        self._takes: dict[int, Callable[[bytes], None]] = {
            FrameKind.INTENT: self._begin,
            FrameKind.BODY: self._refer,
            FrameKind.CHUNK: self._say,
            FrameKind.OUTCOME: self._end,
        }

    def __iter__(self) -> Iterator[OpenRequest]:
        """Oldest first."""
        return iter(self._open.values())

    def feed(self, kind: int, payload: bytes) -> None:
        """Raises PayloadUnreadable for one whose request cannot be told."""
        take = self._takes.get(kind)
        if take is not None:
            take(payload)

    def _begin(self, payload: bytes) -> None:
        try:
            intent = decode_intent(payload)
        except PayloadUnreadable:
            request = OpenRequest(request_id_of(payload), None)
        else:
            request = OpenRequest(intent.request_id, intent)
        self._open[request.request_id] = request

    def _refer(self, payload: bytes) -> None:
        body = decode_body(payload)
        if (request := self._open.get(body.request_id)) is not None:
            request.content = body.content

    def _say(self, payload: bytes) -> None:
        chunk = decode_chunk(payload)
        if (request := self._open.get(chunk.request_id)) is not None:
            if request.answer is None:
                request.answer = PartialAnswer(chunk)
            request.answer.feed(chunk, len(payload))

    def _end(self, payload: bytes) -> None:
        self._open.pop(request_id_of(payload), None)


def _address(hexadecimal: str | None) -> bytes:
    if hexadecimal is None:
        return ROOT
    try:
        address = bytes.fromhex(hexadecimal)
    except ValueError:
        raise PayloadUnreadable("no address") from None
    if len(address) != ADDRESS_BYTES:
        raise PayloadUnreadable("no address")
    return address


def _choice(name: str) -> int:
    if not (name.isascii() and name.isdecimal() and len(name) < 4 and int(name) < MAX_CHOICES):
        raise PayloadUnreadable(f"{name!r} is no choice")
    return int(name)
