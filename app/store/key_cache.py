"""What the database said about a digest, for a few seconds. No I/O, and the caller's clock."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.store.api_key import ApiKey


@dataclass(frozen=True, slots=True)
class Answer:
    """`key` is None for a digest that opens nothing. `asked_at` is when the question left, in the
    clock's seconds: the answer may be as old as that."""

    key: ApiKey | None
    asked_at: float


class KeyCache:
    """Two bounded LRU maps, by the full digest: keys, and digests that opened nothing. They are
    apart so that a flood of made-up secrets pushes no key out."""

    def __init__(self, *, seconds: float, entries: int) -> None:
        self._seconds = seconds
        self._entries = entries
        self._keys: OrderedDict[bytes, Answer] = OrderedDict()
        self._strangers: OrderedDict[bytes, Answer] = OrderedDict()

    def get(self, digest: bytes, now: float) -> Answer | None:
        """An answer younger than the cache's seconds, or None."""
        for answers in (self._keys, self._strangers):
            answer = answers.get(digest)
            if answer is not None and now - answer.asked_at < self._seconds:
                answers.move_to_end(digest)
                return answer
        return None

    def remembered(self, digest: bytes, since: float) -> ApiKey | None:
        """The key that it opened when last asked about, if that was after `since`."""
        answer = self._keys.get(digest)
        return answer.key if answer is not None and answer.asked_at > since else None

    def put(self, digest: bytes, answer: Answer) -> None:
        into, other = self._keys, self._strangers
        if answer.key is None:
            into, other = other, into
        other.pop(digest, None)
        into[digest] = answer
        into.move_to_end(digest)
        if len(into) > self._entries:
            into.popitem(last=False)

    def has_opened(self, digest: bytes) -> bool:
        """Whether this digest was a key when last asked about, however long ago."""
        return digest in self._keys

    def forget(self, key_id: str) -> None:
        """Drop the key's answers: it or its secrets ended through this process."""
        for digest in self._digests_of(lambda key: key.id == key_id):
            del self._keys[digest]

    def outdate(self, concerned: Callable[[ApiKey], bool]) -> None:
        """Ask again about these keys: they, their plan or tenant was changed through this process.
        They have still opened, so that a thousand of them are not taken for strangers."""
        for digest in self._digests_of(concerned):
            self._keys[digest] = replace(self._keys[digest], asked_at=-math.inf)

    def _digests_of(self, concerned: Callable[[ApiKey], bool]) -> list[bytes]:
        return [
            digest
            for digest, answer in self._keys.items()
            if answer.key is not None and concerned(answer.key)
        ]
