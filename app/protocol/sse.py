"""Server-sent events, decoded on bytes.

`str.splitlines()` and the line readers built on it also split at U+2028, U+0085 and others, which
models emit inside JSON strings; SSE knows only LF, CRLF and CR. So nothing here decodes text.
"""

# One event of a worker is one JSON object, a few hundred bytes; a folded tool call may be larger.
MAX_EVENT_BYTES = 8 * 1024 * 1024

DONE = b"[DONE]"


class SSEError(ValueError):
    """The peer's stream is not one that we are willing to buffer."""


class SSEDecoder:
    """Bytes in, the data of complete events out. Comments and other fields are dropped."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._parts: list[bytes] = []  # of the event that is not complete yet
        self._held_bytes = 0
        self._cr_held = False  # a CR that may be the first half of a CRLF
        self._started = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that `data` completes. Raises SSEError over the bound."""
        data = self._normalise(data)
        if not data:
            return []
        at_boundary = bool(self._parts) and self._parts[-1].endswith(b"\n")
        if b"\n\n" not in data and not (at_boundary and data.startswith(b"\n")):
            self._hold(data)
            return []
        *blocks, tail = b"".join([*self._parts, data]).split(b"\n\n")
        self._parts, self._held_bytes = [], 0
        if tail:
            self._hold(tail)
        return [payload for block in blocks if (payload := _payload(block)) is not None]

    def close(self) -> list[bytes]:
        """The last event, where the peer closed without the blank line that ends it."""
        rest = b"".join(self._parts)
        self._parts, self._held_bytes, self._cr_held = [], 0, False
        payload = _payload(rest)
        return [] if payload is None else [payload]

    def _normalise(self, data: bytes) -> bytes:
        """The same bytes with every line ending a LF, and without a leading byte order mark."""
        if not self._started and data:
            self._started = True
            data = data.removeprefix(b"\xef\xbb\xbf")
        if self._cr_held:
            data, self._cr_held = b"\r" + data, False
        if b"\r" not in data:
            return data
        if data.endswith(b"\r"):
            data, self._cr_held = data[:-1], True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, data: bytes) -> None:
        self._held_bytes += len(data)
        if self._held_bytes > self._max_event_bytes:
            raise SSEError(f"an event of more than {self._max_event_bytes} bytes")
        self._parts.append(data)


def _payload(block: bytes) -> bytes | None:
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [line for line in block.split(b"\n") if line.startswith(b"data")]
    values = [
        line[5:].removeprefix(b" ") if line[4:5] == b":" else b""
        for line in lines
        if line[4:5] in (b":", b"")
    ]
    return b"\n".join(values) if values else None
