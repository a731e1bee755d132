"""What looks like a secret in a finished line, whoever wrote it: the last net.

The first is the types of what may be logged (log_values.py), the second the secrets that this
process knows by value (app/known_secrets.py). This one knows forms: of keys that clients bring, and
of what drivers and engines quote.
"""

import re
from collections.abc import Callable
from functools import partial

from app.known_secrets import KNOWN

# None of them reaches over the end of a JSON string, so that the line stays JSON.
_KEY = re.compile(rb"(?<![0-9A-Za-z])sk-(?:qw-)?[0-9A-Za-z][0-9A-Za-z_-]{7,}")
_USER_INFORMATION = re.compile(rb"(?<=://)[^\s/@\"'<>\\]+@")
_AUTHORIZATION = re.compile(rb"(?i)\b(bearer|basic)(?: |%20)+[0-9A-Za-z._~+/=-]{8,}")
_ASSIGNED = re.compile(
    rb"(?i)((?:password|passwd|secret|token|api[-_]?key|access[-_]?key|pepper|x-api-key)"
    rb"(?:=|\\?[\"']\s*[:,]\s*b?\\?[\"']))[^\s\"'\\,;&]{3,}"
)

Mask = Callable[[bytes], bytes]

# Each with signs of which it needs one: in the 600 bytes of a line a search for one takes 0.1 to
# 0.4 us, and an expression that ignores case ten times as long.
_MASKS: tuple[tuple[tuple[bytes, ...], Mask], ...] = (
    ((b"sk-",), partial(_KEY.sub, b"sk-***")),
    ((b"@",), partial(_USER_INFORMATION.sub, b"***@")),
    ((b"earer", b"asic "), partial(_AUTHORIZATION.sub, rb"\1 ***")),
    ((b"=", b"\\", b"'", b'": "'), partial(_ASSIGNED.sub, rb"\1***")),
)


def mask_line(line: bytes) -> bytes:
    """The same line, of JSON or of text, without what looks like a secret or is a known one."""
    line = KNOWN.masked_bytes(line)
    for signs, mask in _MASKS:
        for sign in signs:
            if sign in line:
                line = mask(line)
                break
    return line
