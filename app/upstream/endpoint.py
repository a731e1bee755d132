"""One worker as the pool knows it."""

from dataclasses import replace

from app.settings import DEFAULT_CONTEXT_TOKENS, Engine, WorkerSettings
from app.settings.pool import PoolSettings
from app.upstream.engines import Dialect, dialect_of
from app.upstream.load import LoadRules, WorkerLoad

# It answers one request after the other, and crashes on some that come together.
TRANSFORMERS_CONCURRENCY = 1

DEFAULT_POOL = "default"  # of workers without a tag
MAX_POOL_CHARACTERS = 64  # in the labels of metrics


class Endpoint:
    """An address that we can send to, and what we have seen of it.

    `ready` is the prober's verdict and the data path's: a failed connection takes it back at once.
    `pool` is what workers of its kind are counted under.
    """

    def __init__(self, settings: WorkerSettings, rules: PoolSettings | None = None) -> None:
        self.settings = settings
        self.url = settings.base_url
        self.name = settings.name
        self.tags = settings.tags
        self.pool = _pool_of(settings)
        self.dialect: Dialect = dialect_of(settings)
        self.load = WorkerLoad(LoadRules.of(rules or PoolSettings(), _max_concurrency(settings)))
        self.ready = False
        self.verified = False  # it was seen to split the thought off as its settings say
        self.draining = False  # nothing new is sent to it
        # Monotonic seconds; None: it is trusted. From then on it gets one request at a time, until
        # whoever ejected it says None again.
        self.ejected_until: float | None = None
        self.on_trial = False  # that one request is there
        self.in_flight = 0  # requests with it, of whatever generation
        self.calls: str | None = None  # how it was seen to call tools
        self.model: str | None = None  # what the worker calls the model; asked of it
        self._context_tokens: int | None = None

    @property
    def generation(self) -> int:
        """Another one has nothing of what was given to the one before."""
        return self.load.generation

    def renew(self) -> None:
        """It was restarted, or away for so long that it may have been."""
        self.load.renew()

    def reconfigure(self, settings: WorkerSettings) -> None:
        """Of a worker that `is_asked_as` before: whatever else is said of it. It acts on requests
        that are still to be given to it."""
        self.settings = settings
        self.url = settings.base_url
        self.tags = settings.tags
        self.pool = _pool_of(settings)
        self.load.rules = replace(self.load.rules, max_streams=_max_concurrency(settings))

    @property
    def last_resort(self) -> bool:
        """For development: asked only where no other can be."""
        return self.settings.engine is Engine.TRANSFORMERS

    @property
    def context_tokens(self) -> int:
        """Configured, else what the worker said, else what the model is meant to be served with."""
        return self.settings.max_model_len or self._context_tokens or DEFAULT_CONTEXT_TOKENS

    def takes_requests(self, now: float) -> bool:
        """Whether anything new may be sent to it, room or not."""
        if not self.ready or self.draining:
            return False
        until = self.ejected_until
        return until is None or (now >= until and not self.on_trial)

    def can_replace(self, other: "Endpoint") -> bool:
        """Whether it can do all that the other can: as long prompts, for the same keys."""
        return self.context_tokens >= other.context_tokens and self.tags >= other.tags

    def headers(self) -> dict[str, str]:
        """Built from scratch: no header of a caller ever reaches a worker."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self.settings.api_key is not None:
            headers["authorization"] = f"Bearer {self.settings.api_key.get_secret_value()}"
        return headers

    def learned(self, model: str, context_tokens: int | None) -> None:
        self.model = model
        self._context_tokens = context_tokens


def _max_concurrency(settings: WorkerSettings) -> int | None:
    if settings.engine is Engine.TRANSFORMERS:
        return TRANSFORMERS_CONCURRENCY
    return settings.max_concurrency


def _pool_of(settings: WorkerSettings) -> str:
    return "+".join(sorted(settings.tags))[:MAX_POOL_CHARACTERS] or DEFAULT_POOL
