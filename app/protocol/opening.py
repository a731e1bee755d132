"""How a worker's answer opens, before the model speaks: comments, a role, how far it has read."""

from app.protocol.chunks import MalformedChunk, decode_chunk
from app.protocol.events import UsageReport
from app.protocol.sse import DONE, SSEDecoder, SSEError

# llama.cpp tells its progress in 300 bytes for each 512 tokens: of a million, 600 KB.
MAX_OPENING_BYTES = 1024 * 1024


class Opening:
    """Bytes in; says when something came that is of an answer: a word, a call, an end, an error, or
    more bytes than anybody needs to open."""

    def __init__(self) -> None:
        self._sse = SSEDecoder(MAX_OPENING_BYTES)
        self._bytes = 0

    def feed(self, data: bytes) -> bool:
        """Whether it has now come to its end. Not to be asked again after that."""
        self._bytes += len(data)
        try:
            payloads = self._sse.feed(data)
        except SSEError:
            return True
        return self._bytes > MAX_OPENING_BYTES or any(map(_says_something, payloads))

    def close(self) -> bool:
        """The same at the end of the bytes, whose last event may lack its blank line."""
        return any(map(_says_something, self._sse.close()))


def _says_something(payload: bytes) -> bool:
    if payload == DONE:
        return True
    try:
        events = decode_chunk(payload)
    except MalformedChunk:
        return True
    return any(not isinstance(event, UsageReport) for event in events)
