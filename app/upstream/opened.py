"""An answer that has begun."""

from dataclasses import dataclass

from app.upstream.client import WorkerStream
from app.upstream.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Upstream:
    """`first` is what came first: until then the request could have gone elsewhere."""

    endpoint: Endpoint
    stream: WorkerStream
    first: bytes
