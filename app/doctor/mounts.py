"""Which kind of file system a path is on, as Linux tells it."""

from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_POINT = 4  # of a line's words: where it is mounted; the kind follows a `-`


def file_system_of(path: Path, mounts: Path = MOUNTS) -> str | None:
    """`ext4`, `overlay`, `tmpfs`; None where nobody says."""
    try:
        lines = mounts.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    resolved = path.resolve()
    best, kind = -1, None
    for line in lines:
        words = line.split()
        if len(words) <= _POINT or "-" not in words[_POINT:-1]:
            continue
        point = Path(_unescaped(words[_POINT]))
        # Of two on one place the later one covers the other.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), words[words.index("-", _POINT) + 1]
    return kind


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
