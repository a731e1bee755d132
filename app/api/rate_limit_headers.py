"""`x-ratelimit-*`: what a key has left of its limits, as OpenAI's clients read it."""

import math

from app.limits.subjects import Bucket, Standing

RawHeaders = list[tuple[bytes, bytes]]


def rate_limit_headers(standing: Standing) -> RawHeaders:
    """Of requests and tokens a minute, those that are limited. On a stream they tell of the state
    with the whole answer reserved."""
    headers: RawHeaders = []
    for bucket, of in ((standing.requests, b"requests"), (standing.tokens, b"tokens")):
        if bucket is not None:
            headers += _of(bucket, of)
    return headers


def _of(bucket: Bucket, of: bytes) -> RawHeaders:
    return [
        (b"x-ratelimit-limit-" + of, b"%d" % bucket.limit),
        (b"x-ratelimit-remaining-" + of, b"%d" % bucket.remaining),
        (b"x-ratelimit-reset-" + of, duration(bucket.reset_seconds).encode("ascii")),
    ]


def duration(seconds: float) -> str:
    """As Go writes and parses it (`12ms`, `1.5s`, `6m0s`, `1h0m0s`), never too short."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    text = f"{milliseconds / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if minutes == 0:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
