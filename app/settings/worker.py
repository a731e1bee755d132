"""What is said of a worker, wherever it is said: in the settings, in a file, over the admin API."""

import json
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)

from app.known_secrets import remember_key, remember_url


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


def _place_alone(url: AnyHttpUrl) -> AnyHttpUrl:
    """A worker's URL is its name, in metrics too: no place for a key. Routes are put behind it."""
    if url.query is not None or url.fragment is not None:
        raise ValueError(
            "must end with its path: no route is found behind a `?` or `#`, and a key belongs in "
            "api_key"
        )
    return url


class WorkerSettings(BaseModel):
    """One inference server. A bare URL means vLLM with its reasoning and tool parsers on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: Annotated[AnyHttpUrl, AfterValidator(remember_url), AfterValidator(_place_alone)]
    """Where it listens, with or without `/v1`."""

    engine: Engine = Engine.VLLM
    """What it runs: `openai` is any other server with OpenAI's routes."""

    separation: Separation = Separation.PARSER
    """Whether the engine splits the thought off (`parser`) or leaves it in the text (`inline`)."""

    thinks: bool = True
    """Whether the model thinks before each answer. Of one that does not, text is believed at
    once."""

    model: str | None = Field(default=None, min_length=1, max_length=512)
    """What the worker calls the model; by default asked of it. `transformers serve` lists what is
    in its cache, which need not be what it serves."""

    max_model_len: int | None = Field(default=None, ge=1)
    """Tokens of its context; by default asked of it."""

    api_key: Annotated[SecretStr, AfterValidator(remember_key)] | None = None
    """What it wants to see in `Authorization: Bearer`. An `api_key_file` instead names the file
    that holds it."""

    tags: frozenset[str] = frozenset()
    """Words for policies to choose workers by. `short` keeps prompts above
    `GATEWAY_LONG_PREFILL_TOKENS` off it."""

    max_concurrency: int | None = Field(default=None, ge=1)
    """Requests that it gets at a time; by default as its tokens allow."""

    body_defaults: dict[str, Any] = Field(default_factory=dict)
    """Fields of its request's body where the client and the model card say nothing else."""

    body_overrides: dict[str, Any] = Field(default_factory=dict)
    """Fields of its request's body that are always so."""

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


def _with_key(value: object) -> object:
    """`api_key_file` instead of `api_key`, for a secret that is mounted. Only of what an operator
    has written: over the admin API it would send any file to any server."""
    if not isinstance(value, dict) or "api_key_file" not in value:
        return value
    if "api_key" in value:
        raise ValueError("has both api_key and api_key_file; give it one of them")
    return {name: each for name, each in value.items() if name != "api_key_file"} | {
        "api_key": _key_in(value["api_key_file"])
    }


def _key_in(path: object) -> str:
    if not isinstance(path, str | Path):
        raise ValueError("api_key_file must be a path")
    try:
        key = Path(path).read_text("utf-8").strip()
    except OSError as error:
        raise ValueError(f"api_key_file: cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"api_key_file: {path} is not a text in UTF-8") from None
    if not key:
        raise ValueError(f"api_key_file: {path} is empty")
    return key


# Validators run from the last to the first.
Worker = Annotated[WorkerSettings, BeforeValidator(_with_key), BeforeValidator(_from_text)]
