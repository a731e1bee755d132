"""What the chart's value sets render to, kept so that a change of it is seen and meant.

    python -m tests.deploy.chart_snapshots

writes tests/deploy/chart/*.yaml anew. Look at the difference before it is committed.
"""

from pathlib import Path

from tests.deploy.chart_release import VALUE_SETS, release_of

SNAPSHOTS = Path(__file__).parent / "chart"
# Copies of other files, which other tests hold equal.
LEFT_OUT = ("monitoring/rules.yaml", "monitoring/dashboards.yaml")


def path_of(name: str) -> Path:
    return SNAPSHOTS / f"{name}.yaml"


def snapshot(name: str) -> str:
    """All templates but those of LEFT_OUT, and the notes as a comment."""
    release = release_of(name)
    parts = [
        f"# Source: {file}\n{text.strip()}\n"
        for file, text in release.files.items()
        if file not in LEFT_OUT
    ]
    notes = "".join(f"# {line}".rstrip() + "\n" for line in release.notes.strip().splitlines())
    return "---\n".join([f"# Source: NOTES.txt\n{notes}", *parts])


def write() -> None:
    SNAPSHOTS.mkdir(exist_ok=True)
    for name in VALUE_SETS:
        path_of(name).write_text(snapshot(name), "utf-8")


if __name__ == "__main__":
    write()
