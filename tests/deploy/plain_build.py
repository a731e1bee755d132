"""A stage of a Dockerfile, run step by step in a plain directory, where no container engine is.

Absolute paths of the image lie below that directory: those of WORKDIR and COPY, and those that ENV
gives a name, by which alone RUN may use them. The base image is this machine.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.build_context import BuildContext
from tests.deploy.dockerfile import Instruction, Stage

STEP_SECONDS = 600.0  # a cold cache, a far index; only spent on failure


class PlainBuild:
    def __init__(self, root: Path, context: BuildContext) -> None:
        self._root = root
        self._context = context
        self._directory = root
        self.variables: dict[str, str] = {}

    def run(self, stage: Stage) -> None:
        """Raises AssertionError with what a step has printed where it fails."""
        steps = {"ENV": self._set, "WORKDIR": self._enter, "COPY": self._copy, "RUN": self._run}
        for instruction in stage.instructions:
            if instruction.word != "ARG":  # none is given
                steps[instruction.word](instruction)

    def path(self, path: str) -> Path:
        """Where a path of the image lies."""
        return self._root / path.lstrip("/") if path.startswith("/") else self._directory / path

    def _set(self, instruction: Instruction) -> None:
        for name, value in instruction.pairs.items():
            self.variables[name] = str(self.path(value)) if value.startswith("/") else value
            if value.startswith("/"):
                self.path(value).parent.mkdir(parents=True, exist_ok=True)

    def _enter(self, instruction: Instruction) -> None:
        self._directory = self.path(instruction.text)
        self._directory.mkdir(parents=True, exist_ok=True)

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.words
        for source in sources:
            for file in self._context.files(source):
                inside = file.relative_to(source) if str(file) != source else Path(file.name)
                whole = str(file) == source and not target.endswith("/")
                wanted = self.path(target) if whole else self.path(target) / inside
                wanted.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context.root / file, wanted)

    def _run(self, instruction: Instruction) -> None:
        done = subprocess.run(
            ["sh", "-eu", "-c", instruction.command],
            cwd=self._directory,
            env=_environment() | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
            check=False,
            text=True,
        )
        assert done.returncode == 0, f"{instruction.command}\n{done.stdout}"


def _environment() -> dict[str, str]:
    """As this machine installs packages, but with no interpreter of ours in it."""
    interpreters = str(Path(sys.base_prefix) / "bin")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PATH": f"{interpreters}:/usr/local/bin:/usr/bin:/bin"}
