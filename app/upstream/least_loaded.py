"""The worker with the least to do comes first, whatever it knows."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Candidate:
    endpoint: Endpoint
    saved_tokens: int = 0
    patience_seconds: float = 0.0


class LeastLoaded:
    """A Ranking. Equals take turns."""

    def __init__(self) -> None:
        self._turn = 0

    def rank(self, ask: Ask, endpoints: Sequence[Endpoint], now: float) -> list[Candidate]:
        self._turn += 1
        start = self._turn % len(endpoints)
        turned = [*endpoints[start:], *endpoints[:start]]
        return [Candidate(e) for e in sorted(turned, key=lambda e: e.load.pressure(now))]
