"""The worker that `gateway dev` starts when none is given: llama.cpp with a small real model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp

from app.embedded.errors import MISSING_EXTRA, EmbeddedError
from app.embedded.llama_process import LlamaProcess, running
from app.embedded.model import EmbeddedModel, choose_model
from app.embedded.thinking import request_fields, sampling_defaults
from app.settings import Engine, Separation, WorkerSettings

ASK_SECONDS = 60.0  # the first prompt of a large model on a slow machine
OPENING_TAG = "<think>"
# Now and then the stand-in finds no end (a row of emoji); 1,024 tokens take it ten seconds.
STAND_IN_OUTPUT_TOKENS = 1_024


@dataclass(frozen=True, slots=True)
class EmbeddedWorker:
    """A running model server, as the pool finds it again after every restart.

    `context_tokens` is what one request may use. `opens_thought`: the template itself begins the
    thought, so the output starts inside of one. `stand_in`: it is not the model that was asked for.
    """

    url: str
    api_key: str = field(repr=False)
    model_name: str
    context_tokens: int
    opens_thought: bool
    stand_in: bool

    @property
    def default_output_tokens(self) -> int | None:
        """What to cut an answer at where the client names no bound; None for the usual."""
        return STAND_IN_OUTPUT_TOKENS if self.stand_in else None

    def settings(self) -> WorkerSettings:
        """A user's own model gets no grammar and no sampling of ours."""
        overrides = request_fields() if self.stand_in else {}
        return WorkerSettings.model_validate(
            {
                "url": self.url,
                "engine": Engine.LLAMACPP,
                "separation": Separation.INLINE,
                "thinks": self.opens_thought,
                "max_model_len": self.context_tokens,
                "api_key": self.api_key,
                "body_defaults": sampling_defaults() if self.stand_in else {},
                "body_overrides": overrides,
            }
        )


@asynccontextmanager
async def embedded_worker(home: Path, model: Path | None) -> AsyncIterator[EmbeddedWorker]:
    """A worker that answers, with the GGUF at `model` or else the stand-in.

    It is started again when it dies, and ends with this process whatever ends that. Its log is
    `home/llama.log`. Raises EmbeddedError.
    """
    if find_spec("xllamacpp") is None:
        raise EmbeddedError(MISSING_EXTRA)
    chosen = choose_model(model)
    async with running(chosen, home) as server:
        yield await _described(server, chosen)


async def _described(server: LlamaProcess, model: EmbeddedModel) -> EmbeddedWorker:
    """Asks the server what it made of the model, and lets it read the template's examples once."""
    question = {"messages": [{"role": "user", "content": "Hello!"}]}
    async with aiohttp.ClientSession(
        server.url,
        headers={"authorization": f"Bearer {server.api_key}"},
        timeout=aiohttp.ClientTimeout(total=ASK_SECONDS),
        raise_for_status=True,
    ) as session:
        try:
            props = await _ask(session, "GET", "/props", None)
            rendered = await _ask(session, "POST", "/apply-template", question)
            if model.stand_in:
                await _ask(session, "POST", "/v1/chat/completions", {**question, "max_tokens": 1})
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EmbeddedError(
                f"the model server fails: {type(error).__name__}: {error}"
            ) from None
    return EmbeddedWorker(
        url=server.url,
        api_key=server.api_key,
        model_name=model.name,
        context_tokens=props["default_generation_settings"]["n_ctx"],
        opens_thought=rendered["prompt"].rstrip().endswith(OPENING_TAG),
        stand_in=model.stand_in,
    )


async def _ask(
    session: aiohttp.ClientSession, method: str, path: str, body: dict[str, Any] | None
) -> dict[str, Any]:
    async with session.request(method, path, json=body) as response:
        answer: dict[str, Any] = await response.json()
        return answer
