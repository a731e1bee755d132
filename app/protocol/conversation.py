"""Which conversation a request belongs to, told the same way by every replica.

A client may say it; otherwise it is what no later turn changes: the beginnings of the tools, of the
system text and of the first user's message. Nothing is allowed by it, and nothing is kept under it:
requests that share one are asked of the same worker, so a guess that is wrong costs a prefill.
"""

from hashlib import blake2b

from app.protocol.prompt_text import ENCODING_ERRORS, PromptText

CONVERSATION_BYTES = 16
# Of the tools and of the system text, which tell conversations apart but rarely: 5 us for both.
MAX_SHARED_BYTES = 2 * 1024
# About 2,000 tokens of the first user's message. Prompts that have so much in common, a document
# say, are better off on one worker whatever comes behind it. 20 us.
MAX_FIRST_BYTES = 8 * 1024


def conversation_of(text: PromptText, tenant: str, hint: str | None = None) -> bytes:
    """CONVERSATION_BYTES, of this tenant's alone."""
    digest = blake2b(digest_size=CONVERSATION_BYTES, person=b"conversation")
    _feed(digest, tenant.encode("utf-8", ENCODING_ERRORS))
    if hint is not None:
        _feed(digest, b"hint")
        _feed(digest, hint.encode("utf-8", ENCODING_ERRORS))
        return digest.digest()
    first_user = text.first_user
    _feed(digest, b"head")
    _feed(digest, _beginning(text.sections[0], MAX_SHARED_BYTES))
    # What stands between the system text and the user is the client's greeting at most.
    _feed(digest, _beginning(text.sections[1], MAX_SHARED_BYTES) if first_user > 1 else b"")
    if first_user:
        _feed(digest, _beginning(text.sections[first_user], MAX_FIRST_BYTES))
    return digest.digest()


def _feed(digest: blake2b, part: bytes) -> None:
    """With its length before it: where one part ends is part of what is hashed."""
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)


def _beginning(section: tuple[bytes, ...], most: int) -> bytes:
    pieces: list[bytes] = []
    for piece in section:
        pieces.append(piece[:most])
        most -= len(pieces[-1])
        if not most:
            break
    return b"".join(pieces)
