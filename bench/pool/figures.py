"""The table of a run."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.pool.simulation import WORKERS, Outcome
from bench.pool.traffic import Kind

# Of short questions, to the first token: beside all that the pool has to read, and alone in it.
MAX_SHORT_P99_RATIO = 2.0


@dataclass(frozen=True)
class Row:
    scenario: str
    router: str
    outcome: Outcome


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of the values do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def as_table(rows: Sequence[Row]) -> str:
    head = [
        "", "hits", f"reading of {WORKERS}",
        *(f"{kind} {column}" for kind in Kind for column in ("n", "p50 s", "p99 s")),
        "refused",
    ]  # fmt: skip
    lines = [head]
    title = ""
    for row in rows:
        if row.scenario != title:
            title = row.scenario
            lines.append([title])
        lines.append(list(_cells(row)))
    widths = [max(len(line[at]) for line in lines if len(line) > 1) for at in range(len(head))]
    return "\n".join(
        line[0]
        if len(line) == 1
        else "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cells(row: Row) -> Iterator[str]:
    outcome = row.outcome
    yield f"  {row.router}"
    yield f"{outcome.hit_rate:.1%}" if outcome.seen_tokens else "-"
    yield f"{outcome.reading_seconds:.2f}"
    for kind in Kind:
        seconds = outcome.classes[kind].first_seconds
        yield f"{len(seconds):,}"
        yield f"{percentile(seconds, 50):.2f}" if seconds else "-"
        yield f"{percentile(seconds, 99):.2f}" if seconds else "-"
    yield f"{sum(each.refused for each in outcome.classes.values())}"


def short_p99_verdict(alone: Outcome, beside: Outcome) -> str:
    base = percentile(alone.classes[Kind.SHORT].first_seconds, 99)
    loaded = percentile(beside.classes[Kind.SHORT].first_seconds, 99)
    verdict = "ok" if loaded <= MAX_SHORT_P99_RATIO * base else "MISSED"
    return (
        f"short p99 beside prompts of a million, pools by length: {loaded:.2f} s, "
        f"{loaded / base:.1f}x of {base:.2f} s alone; target <= {MAX_SHORT_P99_RATIO:g}x: {verdict}"
    )
