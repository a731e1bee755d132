"""A Dockerfile, read: its stages, and their instructions with what continues on the next line."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

MOUNT = re.compile(r"--mount=\S+\s+")


@dataclass(frozen=True)
class Instruction:
    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """Without flags."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def flags(self) -> dict[str, str]:
        given = (word for word in shlex.split(self.text) if word.startswith("--"))
        return {name: value for name, _, value in (word[2:].partition("=") for word in given)}

    @property
    def pairs(self) -> dict[str, str]:
        """Of ENV and LABEL."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}

    @property
    def command(self) -> str:
        """Of RUN: for a shell, without what only a builder can mount."""
        return MOUNT.sub("", self.text)

    @property
    def exec_form(self) -> list[str]:
        """Of CMD, ENTRYPOINT and HEALTHCHECK. Raises ValueError for the form that needs a shell."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


@dataclass
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> Iterator[Instruction]:
        return (each for each in self.instructions if each.word == word)

    def one(self, word: str) -> Instruction:
        [found] = self.all(word)
        return found


@dataclass(frozen=True)
class Dockerfile:
    arguments: dict[str, str]  # before the first stage
    stages: dict[str, Stage]

    def line(self, name: str) -> list[Stage]:
        """The stages that one is made of, itself first, down to the base image."""
        stage = self.stages[name]
        below = self.line(stage.base) if stage.base in self.stages else []
        return [stage, *below]

    def last(self, name: str, word: str) -> Instruction:
        """The one that counts in a stage, which may be that of a stage below."""
        return next(found for stage in self.line(name) for found in reversed([*stage.all(word)]))


def parse(text: str) -> Dockerfile:
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for word, rest in _lines(text):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages[name or str(len(stages))] = Stage(base, name)
        elif stages:
            [*_, current] = stages.values()
            current.instructions.append(Instruction(word, rest))
        else:
            name, _, value = rest.partition("=")
            arguments[name] = value
    return Dockerfile(arguments, stages)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    whole = re.sub(r"^[ \t]*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", whole).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, rest.strip()
