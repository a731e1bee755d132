"""What a build is sent: the files that .dockerignore leaves of a directory."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath


class BuildContext:
    def __init__(self, root: Path) -> None:
        self.root = root
        lines = (root / ".dockerignore").read_text("utf-8").splitlines()
        self._patterns = [line for line in lines if line and not line.startswith("#")]

    def has(self, path: str) -> bool:
        """Whether it is there, and sent."""
        return (self.root / path).exists() and not self._ignored(path)

    def files(self, path: str) -> Iterator[PurePosixPath]:
        """Relative to the root: the file itself, or those below a directory."""
        start = self.root / path
        if start.is_file() and self.has(path):
            yield PurePosixPath(path)
        for directory, inside, names in os.walk(start):
            here = Path(directory).relative_to(self.root)
            inside[:] = [name for name in inside if self._sends_below((here / name).as_posix())]
            for name in names:
                found = (here / name).as_posix()
                if not self._ignored(found):
                    yield PurePosixPath(found)

    def _sends_below(self, directory: str) -> bool:
        kept = any(pattern.startswith(f"!{directory}/") for pattern in self._patterns)
        return kept or not self._ignored(directory)

    def _ignored(self, path: str) -> bool:
        """The last pattern that says anything of it, or of a directory that it is in, decides."""
        names = [path, *(str(parent) for parent in PurePosixPath(path).parents)][:-1]
        ignored = False
        for pattern in self._patterns:
            wanted = pattern.removeprefix("!")
            if any(_matches(name, wanted) for name in names):
                ignored = not pattern.startswith("!")
        return ignored


def _matches(path: str, pattern: str) -> bool:
    """`*` stays within a name; `**/` stands for any directories, none too."""
    deep = pattern.startswith("**/")
    parts = pattern.removeprefix("**/").split("/")
    found = path.split("/")
    if deep:
        found = found[-len(parts) :]
    return len(found) == len(parts) and all(map(fnmatchcase, found, parts))
