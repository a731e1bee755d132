"""What is said of a worker, wherever it is said: in the settings, in a file, over the admin API."""

import json
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any

from pydantic import AnyHttpUrl, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


class Engine(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    TRANSFORMERS = "transformers"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


class Separation(StrEnum):
    """Who splits the thought off: the engine's parser, or we, from the text."""

    PARSER = "parser"
    INLINE = "inline"


class WorkerSettings(BaseModel):
    """One inference server. A bare URL means vLLM with its reasoning and tool parsers on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: AnyHttpUrl
    engine: Engine = Engine.VLLM
    separation: Separation = Separation.PARSER
    # Whether the model thinks before each answer. Of one that does not, text is believed at once.
    thinks: bool = True
    # What the worker calls the model; else asked of it. `transformers serve` lists what is in its
    # cache, which need not be what it serves.
    model: str | None = Field(default=None, min_length=1, max_length=512)
    max_model_len: int | None = Field(default=None, ge=1)  # tokens; else asked of the worker
    api_key: SecretStr | None = None
    tags: frozenset[str] = frozenset()
    max_concurrency: int | None = Field(default=None, ge=1)  # requests; None: as its tokens allow
    # Fields of the worker's request body: used where the client and the model card say nothing
    # else (defaults), and always (overrides).
    body_defaults: dict[str, Any] = Field(default_factory=dict)
    body_overrides: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def base_url(self) -> str:
        """Without a trailing slash or `/v1`, as the engines' own routes need it."""
        return str(self.url).rstrip("/").removesuffix("/v1")

    @cached_property
    def name(self) -> str:
        """In logs, metrics, audit records and the admin API: the URL without credentials."""
        return self.base_url.partition("://")[2].rpartition("@")[2]

    def is_asked_as(self, other: "WorkerSettings") -> bool:
        """Whether it is the other one, asked and read in the same way: what was found out of the
        one holds for the other."""
        return self._way == other._way

    @property
    def _way(self) -> tuple[object, ...]:
        return (
            self.name, self.url.scheme, self.engine, self.separation, self.thinks, self.model,
            self.body_defaults, self.body_overrides,
        )  # fmt: skip


class NamedTwice(ValueError):
    """A list of workers names one of them a second time."""


def by_name(workers: Iterable[WorkerSettings]) -> dict[str, WorkerSettings]:
    """Raises NamedTwice."""
    found: dict[str, WorkerSettings] = {}
    for worker in workers:
        if worker.name in found:
            raise NamedTwice(f"names {worker.name} twice")
        found[worker.name] = worker
    return found


def _from_text(value: object) -> object:
    """A URL, or JSON of a worker."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("{"):
        return {"url": value}
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is neither a URL nor the JSON of a worker") from None


Worker = Annotated[WorkerSettings, BeforeValidator(_from_text)]
