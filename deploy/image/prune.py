"""Takes out of a virtual environment what a running gateway never reads: `prune.py VENV`.

What is named here was looked at, package by package; anything else stays. Run by the Dockerfile
before the modules are compiled.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# The others start servers and migrations past our own command.
COMMANDS = {"gateway"}

# Sources and headers of extensions that are compiled; nothing reads them at run time.
SOURCES = {".c", ".h", ".hpp", ".pxd", ".pyx"}

# Packages whose `tests` are imported by nothing else in them.
TESTED = ("certifi", "greenlet", "jsonschema", "jsonschema_specifications", "referencing", "regex")

# Of 400 services in botocore, 25 MB: that of checkpoints in a bucket, and those of credentials.
SERVICES = {"s3", "sso", "sso-oidc", "sts"}

UNUSED = ("zstandard/_cffi*.so",)  # the same compression a second time, for PyPy: 12 MB


def main() -> None:
    environment = Path(sys.argv[1])
    [packages] = environment.glob("lib/python3.*/site-packages")
    for path in [*unused_commands(environment / "bin"), *unused_files(packages)]:
        remove(path)


def unused_commands(directory: Path) -> Iterator[Path]:
    """All but the interpreter's names and ours: activation scripts, too."""
    for path in sorted(directory.iterdir()):
        if not path.name.startswith("python") and path.name not in COMMANDS:
            yield path


def unused_files(packages: Path) -> Iterator[Path]:
    for path in sorted(packages.rglob("*")):
        if path.suffix in SOURCES and path.is_file():
            yield path
    for package in TESTED:
        yield from packages.glob(f"{package}/tests")
    for pattern in UNUSED:
        yield from packages.glob(pattern)
    for service in sorted(packages.glob("botocore/data/*/")):
        if service.name not in SERVICES:
            yield service


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
