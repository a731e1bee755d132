"""The page of `/metrics`, in the form that whoever asks for it can read."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from app.telemetry.worker_series import several_processes


def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The body and its content type: OpenMetrics, which has room for exemplars, where `accept` asks
    for it, else Prometheus' own text.

    With several processes this reads the files of all.
    """
    if several_processes():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # the library's, for a version that is not made of numbers
        encode, content_type = choose_encoder("")
    return encode(registry), content_type
