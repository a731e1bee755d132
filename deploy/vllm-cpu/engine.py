"""A real vLLM on the CPU, with a tiny model of the true architecture. Needs only Python's library.

    engine.py prepare               make the environment and train the model, once (some minutes);
                                    prints where the model is
    engine.py serve --port N        vLLM on 127.0.0.1:N, in the foreground
    engine.py transformers --port N `transformers serve` with the same model, instead of vLLM
    engine.py run --port N          vLLM on a free port, and `gateway dev` on N in front of it

Prepared things are kept in ${XDG_CACHE_HOME:-~/.cache}/qwythos-gateway/vllm-cpu/, under a digest
of the files they were made from. ENGINE_PYTHON names the interpreter where the one that runs this
file is not one of those that vLLM has wheels for.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cores
import environment
import gateway_in_front
import supervision

HERE = Path(__file__).parent
MODEL_SOURCES = ("tiny_model.py", "transcripts.py", "chat_template.jinja", "words.txt")
VENV_SOURCES = ("environment.py", "requirements.txt")

SERVED_MODEL = "qwythos"
CONTEXT_TOKENS = 1_010_000  # as in production; a token costs 256 bytes of cache in each worker
WORKERS = 2  # tensor parallel
KV_CACHE_GIB = 1  # for each worker: four million tokens

# `vllm serve` looks for a distribution called `vllm`; this one is called `vllm-cpu`.
ENTRY = "vllm.entrypoints.launchers.api_server.entry"
TRANSFORMERS = "transformers.cli.transformers"  # the command's path names where it was installed
FLAGS = (
    f"--host 127.0.0.1 --served-model-name {SERVED_MODEL} --max-model-len {CONTEXT_TOKENS} "
    f"--tensor-parallel-size {WORKERS} --enforce-eager --reasoning-parser qwen3 "
    "--enable-auto-tool-choice --tool-call-parser qwen3_coder --enable-prompt-tokens-details"
).split()


class Prepared(NamedTuple):
    python: Path
    model: Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare")
    serving = verbs.add_parser("serve")
    serving.add_argument("--port", type=int, required=True)
    serving.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    serving.add_argument("flags", nargs="*", help="after `--`: more flags of vLLM; the last wins")
    other = verbs.add_parser("transformers")
    other.add_argument("--port", type=int, required=True)
    other.add_argument("--die-with-parent", action="store_true", help=argparse.SUPPRESS)
    running = verbs.add_parser("run")
    running.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    prepared = prepare()
    if given.verb == "prepare":
        print(prepared.model)
    if given.verb == "transformers":
        die = given.die_with_parent
        sys.exit(serve_transformers(prepared, given.port, die_with_parent=die))
    if given.verb == "serve":
        flags, die = given.flags, given.die_with_parent
        sys.exit(serve(prepared, given.port, flags, die_with_parent=die))
    if given.verb == "run":
        start = [sys.executable, __file__, "serve", "--die-with-parent", "--port"]
        sys.exit(gateway_in_front.run(start, cache_directory() / "vllm.log", given.port))


def prepare() -> Prepared:
    """Make what is not there yet. A second caller waits for the first."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive(cache / "lock"):
        interpreter, version = environment.find_interpreter(os.environ.get("ENGINE_PYTHON"))
        kind = f"{version} {platform.machine()}"
        venv = cache / f"venv-{digest(VENV_SOURCES, kind)}"
        model = cache / f"model-{digest(MODEL_SOURCES)}"
        prepared = Prepared(venv / "bin" / "python", model)
        if not prepared.python.exists():  # perhaps the interpreter it was made from is gone
            shutil.rmtree(venv, ignore_errors=True)
        make(
            venv,
            "installing vLLM for the CPU (1 to 3 minutes, 2.5 GB)",
            lambda part: environment.build(part, interpreter),
        )
        make(
            model,
            "training the tiny model (2 to 6 minutes)",
            lambda part: train(prepared.python, part),
        )
    return prepared


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "qwythos-gateway" / "vllm-cpu"


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(names: tuple[str, ...], more: str = "") -> str:
    content = hashlib.sha256(more.encode())
    for name in names:
        content.update(name.encode() + (HERE / name).read_bytes())
    return content.hexdigest()[:12]


def make(directory: Path, what: str, build: Callable[[Path], None]) -> None:
    """Build beside its place and rename: what is there is whole, also after a kill."""
    if directory.exists():
        return
    for left_over in directory.parent.glob(f"{directory.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    # Of our own, because a pip that outlived its parent may still be writing into the last one.
    part = directory.with_name(f"{directory.name}.{os.getpid()}")
    print(f"{directory}: {what} ...", file=sys.stderr, flush=True)
    try:
        build(part)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"error: {what} failed with exit code {error.returncode}") from None
    part.rename(directory)


def train(python: Path, model: Path) -> None:
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    subprocess.run([python, HERE / "tiny_model.py", model], check=True, env=os.environ | quiet)


def serve(prepared: Prepared, port: int, flags: list[str], *, die_with_parent: bool) -> int:
    bound = cores.bind(WORKERS, cores.allowed())
    given = {
        "VLLM_CPU_OMP_THREADS_BIND": bound,  # vLLM's own `auto` refuses two workers on one node
        "VLLM_CPU_KVCACHE_SPACE": str(KV_CACHE_GIB),
    }
    fixed = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    command = [str(prepared.python), "-m", ENTRY, "--port", str(port)]
    command += ["--model", str(prepared.model), *FLAGS, *flags]
    environ = given | os.environ | fixed
    return supervision.run(command, environ, die_with_parent=die_with_parent)


def serve_transformers(prepared: Prepared, port: int, *, die_with_parent: bool) -> int:
    """It calls the model by its path."""
    hub = cache_directory() / "hub"  # it lists what is there, and fails where nothing is
    (hub / "hub").mkdir(parents=True, exist_ok=True)
    fixed = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub), "DO_NOT_TRACK": "1"}
    command = [str(prepared.python), "-m", TRANSFORMERS, "serve", str(prepared.model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    return supervision.run(command, os.environ | fixed, die_with_parent=die_with_parent)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
