"""An answer that has begun."""

from dataclasses import dataclass

from app.upstream.endpoint import Endpoint
from app.upstream.turn import Turn
from app.upstream.worker_stream import WorkerStream


@dataclass(frozen=True, slots=True)
class Upstream:
    """`first` is all up to its first word: until then the request could have gone elsewhere."""

    turn: Turn
    stream: WorkerStream
    first: bytes

    @property
    def endpoint(self) -> Endpoint:
        return self.turn.endpoint
