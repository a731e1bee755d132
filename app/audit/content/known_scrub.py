"""Secrets that this process knows by value, in a text that comes in pieces."""

from app.known_secrets import KNOWN, MASK, KnownSecrets

# From so much of a secret on, what comes next is waited for. Of shorter beginnings too many words
# are one; so much of a secret may come out where it is cut in two.
START_CHARACTERS = 8


class KnownScrub:
    """`feed` gives each piece without the secrets in it, but for what may still become one: that
    comes with the next piece, or never, if there is none."""

    def __init__(self, known: KnownSecrets = KNOWN) -> None:
        self._known = known
        self._given = ""  # the last that came out
        self._held = ""

    def feed(self, piece: str) -> str:
        secrets = self._known.texts
        if not secrets:
            return piece
        text = self._given + self._held + piece
        out = len(self._given)
        clean_from = 0  # behind the last secret
        parts: list[str] = []
        for start, end in _spans(text, secrets):
            if end <= out:
                continue
            parts += text[out : max(start, out)], MASK
            out = clean_from = max(end, out)
        held_from = max(out, len(text) - _begun(text, secrets))
        parts.append(text[out:held_from])
        self._held = text[held_from:]
        self._given = text[max(clean_from, held_from - START_CHARACTERS + 1) : held_from]
        return "".join(parts)


def _spans(text: str, secrets: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where they are, in order, none over another."""
    found = []
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            found.append((start, start + len(secret)))
            start = text.find(secret, start + len(secret))
    found.sort(key=lambda span: (span[0], -span[1]))
    return found


def _begun(text: str, secrets: tuple[str, ...]) -> int:
    """How many characters at the end are the beginning of one."""
    longest = 0
    for secret in secrets:
        tail = text[-len(secret) + 1 :]
        place = tail.find(secret[:START_CHARACTERS])
        while place >= 0:
            if secret.startswith(tail[place:]):
                longest = max(longest, len(tail) - place)
                break
            place = tail.find(secret[:START_CHARACTERS], place + 1)
    return longest
