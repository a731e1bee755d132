"""Where files of rules come from: those that ship, and an operator's file or directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from app.rules.document import RulesRefused, read_document
from app.rules.rulebook import Rulebook, build

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 64
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The name, for errors, and the text of a file."""

    name: str
    text: str


@lru_cache(maxsize=1)  # it does not change while the process runs
def shipped() -> Rulebook:
    """The packs and profiles that come with the gateway."""
    folder = files("app.rules") / "packs"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return build({name: read_document(name, (folder / name).read_text("utf-8")) for name in names})


def load(path: Path | None = None) -> Rulebook:
    """What ships, and what a file or the files of a directory add to it. Raises RulesRefused.

    Takes a second or so: not for the event loop.
    """
    return shipped() if path is None else compile_files(read_files(path))


def compile_files(files: Sequence[RuleFile], *, previous: Rulebook | None = None) -> Rulebook:
    """Raises RulesRefused, whichever rule is bad: there is no rulebook in part."""
    documents = {file.name: read_document(file.name, file.text) for file in files}
    return build(documents, base=shipped(), previous=previous)


def read_files(path: Path) -> tuple[RuleFile, ...]:
    """A file, or the *.yaml and *.yml of a directory by their names. Raises RulesRefused.

    Hidden entries are passed over: in a mounted ConfigMap `..data` and the directory that it
    points to hold every file a second time.
    """
    try:
        if not path.is_dir():
            return (_read(path),)
        found = sorted(
            entry
            for entry in path.iterdir()
            if entry.suffix in SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()
        )
    except OSError as error:
        raise RulesRefused(f"cannot read {path}: {error.strerror}") from None
    if not found:
        raise RulesRefused(f"{path}: holds no *.yaml")
    if len(found) > MAX_FILES:
        raise RulesRefused(f"{path}: holds more than {MAX_FILES} files")
    return tuple(map(_read, found))


def _read(path: Path) -> RuleFile:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise RulesRefused(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise RulesRefused(f"{path}: has more than {MAX_FILE_BYTES} bytes")
    try:
        return RuleFile(path.name, content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise RulesRefused(f"{path}: is not UTF-8 text") from None
