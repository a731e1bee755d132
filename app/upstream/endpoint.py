"""One worker as the pool knows it."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.settings import DEFAULT_CONTEXT_TOKENS, WorkerSettings
from app.telemetry.metrics import Metrics
from app.upstream.engines import Dialect, dialect_of


class Endpoint:
    """An address that we can send to, and what we have seen of it.

    `ready` is the prober's verdict and the data path's: a failed connection takes it back at once.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.url = settings.base_url
        # Its name in logs, metrics and audit records: the URL without credentials.
        self.name = self.url.rpartition("@")[2].removeprefix("http://").removeprefix("https://")
        self.dialect: Dialect = dialect_of(settings)
        self.ready = False
        self.verified = False  # it was seen to split the thought off as its settings say
        self.calls: str | None = None  # how it was seen to call tools
        self.in_flight = 0
        self.model: str | None = None  # what the worker calls the model; asked of it
        self._context_tokens: int | None = None

    @property
    def context_tokens(self) -> int:
        """Configured, else what the worker said, else what the model is meant to be served with."""
        return self.settings.max_model_len or self._context_tokens or DEFAULT_CONTEXT_TOKENS

    def headers(self) -> dict[str, str]:
        """Built from scratch: no header of a caller ever reaches a worker."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self.settings.api_key is not None:
            headers["authorization"] = f"Bearer {self.settings.api_key.get_secret_value()}"
        return headers

    def learned(self, model: str, context_tokens: int | None) -> None:
        self.model = model
        self._context_tokens = context_tokens

    @contextmanager
    def carrying(self, metrics: Metrics) -> Iterator[None]:
        """Counts one request while it is open here."""
        self.in_flight += 1
        metrics.worker_in_flight(self.name, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            metrics.worker_in_flight(self.name, self.in_flight)
