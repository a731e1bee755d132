"""When two requests are the same, and whose they are."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from app.protocol.request import ChatRequest
from app.rules.rulebook import Rulebook
from app.store.policy import Policy

# How its client reads the answer, which changes nothing of it.
_READING = frozenset({"stream", "stream_options"})


class Asked:
    """What a request asks, whoever asks it. Its digest is made when somebody may have asked the
    same: 10 ms for a prompt of a million tokens."""

    def __init__(self, route: str, request: ChatRequest) -> None:
        self._route = route
        self._model = request.model
        self._messages = len(request.messages)
        self._request: ChatRequest | None = request
        self._digest = b""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Asked):
            return NotImplemented
        mine = (self._route, self._model, self._messages)
        return mine == (other._route, other._model, other._messages) and (
            self.digest == other.digest
        )

    __hash__ = None  # type: ignore[assignment]  # it would make the digest of every request

    def forget_text(self) -> None:
        """The digest is enough from now on."""
        self._digest = self.digest
        self._request = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body in its canonical form."""
        if not self._digest and self._request is not None:
            sent = self._request.sent
            body = {name: value for name, value in sent.items() if name not in _READING}
            canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
            self._digest = hashlib.sha256(canonical).digest()
        return self._digest


class Terms(NamedTuple):
    """What decides an answer beside what is asked: whoever comes under others gets an answer of
    its own."""

    policy: Policy
    rulebook: Rulebook

    def same_as(self, other: "Terms") -> bool:
        return self.rulebook is other.rulebook and self.policy == other.policy


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose run it is. `retries`: how often its client had tried before."""

    request_id: str
    key_id: str
    asked: Asked
    terms: Terms
    idempotency_key: str | None = None
    retries: int = 0

    @property
    def may_come_again(self) -> bool:
        """By what its client says."""
        return self.idempotency_key is not None or self.retries > 0
