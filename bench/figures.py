"""The figures of a run, what they are held against, and the two forms in which they are told."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import orjson

# Ratio of the gateway's CPU time to nginx's: against a system's nginx, and against the wheel's,
# which is built for size and costs up to twice as much on small requests.
MAX_RATIOS = {"unary": (40.0, 25.0), "stream": (6.0, 5.0), "paced": (3.5, 3.5), "large": (6.0, 6.0)}
MAX_LIMITS_US = 120.0  # that limits in Redis may add to an answer
SCRIPTS_PER_ANSWER = 1.9  # one to admit and one to settle: with fewer, limits were not all in Redis
# Of an answer's CPU, for keeping what was asked and answered on record and not only that it was.
MAX_TEXTS_SHARE = 0.25
MAX_SMALL_P99_MS = 60.0
MAX_IDLE_MIB = 120.0


@dataclass(frozen=True)
class Limits:
    """What limits in Redis add: to the gateway's CPU for each answer, in microseconds, and to the
    first byte, in milliseconds. The same scenario with them, less without."""

    added_us: float
    gateway_us: float  # with them
    per_second: float
    added_p50_ms: float
    added_p99_ms: float
    scripts_per_answer: float  # that Redis ran

    @property
    def verdict(self) -> str:
        if self.scripts_per_answer < SCRIPTS_PER_ANSWER:
            return "NOT ON"  # an outage, or nothing that asks: no figure of what they cost
        return _verdict(self.added_us, MAX_LIMITS_US)


@dataclass(frozen=True)
class Texts:
    """What it adds to the gateway's CPU for each answer that the audit log keeps texts, as a share
    of `without_us`, microseconds."""

    share: float
    without_us: float

    @property
    def verdict(self) -> str:
        return _verdict(self.share, MAX_TEXTS_SHARE)


@dataclass(frozen=True)
class Row:
    """One scenario. CPU in microseconds of user and system time for each answer; first bytes in
    milliseconds, gateway less nginx at the same percentile."""

    scenario: str
    title: str
    events: int | None  # of a streamed answer
    nginx_us: float
    gateway_us: float
    nginx_per_second: float
    gateway_per_second: float
    added_p50_ms: float
    added_p99_ms: float
    texts: Texts
    limits: Limits | None = None

    @property
    def ratio(self) -> float:
        return self.gateway_us / self.nginx_us


@dataclass(frozen=True)
class Beside:
    """How long a small request takes while large bodies pass."""

    nginx_p50_ms: float
    nginx_p99_ms: float
    gateway_p50_ms: float
    gateway_p99_ms: float
    large_per_second: float  # through the gateway
    small_answers: int


@dataclass
class Figures:
    nginx: str
    nginx_from_wheel: bool
    rows: list[Row] = field(default_factory=list)
    beside: Beside | None = None
    idle_mib: float | None = None  # of the gateway's process before any request
    after_mib: float | None = None  # and after all of them
    faults: list[str] = field(default_factory=list)


def as_json(figures: Figures) -> bytes:
    """Everything, with the ratios and targets beside the figures."""
    value = asdict(figures)
    for row, told in zip(figures.rows, value["rows"], strict=True):
        told |= {"ratio": row.ratio, "max_ratio": max_ratio(figures, row)}
        told["texts"] |= {"max_share": MAX_TEXTS_SHARE, "verdict": row.texts.verdict}
        if row.limits is not None:
            told["limits"] |= {"max_added_us": MAX_LIMITS_US, "verdict": row.limits.verdict}
    value |= {"max_small_p99_ms": MAX_SMALL_P99_MS, "max_idle_mib": MAX_IDLE_MIB}
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def as_table(figures: Figures) -> str:
    head = (
        "CPU us per answer", "nginx", "gateway", "ratio", "target", "", "answers/s",
        "first byte +p50", "+p99 ms",
    )  # fmt: skip
    cells = [head, *(line for row in figures.rows for line in _lines(figures, row))]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    table = [
        "  ".join(
            cell.ljust(width) if column in (0, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([f"yardstick: {figures.nginx}", "", *table, "", *_rest(figures)])


def max_ratio(figures: Figures, row: Row) -> float:
    return MAX_RATIOS[row.scenario][figures.nginx_from_wheel]


def percentile_ms(seconds: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of the values do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] * 1000


def _lines(figures: Figures, row: Row) -> Iterator[tuple[str, ...]]:
    target = max_ratio(figures, row)
    yield (
        row.title,
        f"{row.nginx_us:,.0f}",
        f"{row.gateway_us:,.0f}",
        f"{row.ratio:.1f}x",
        f"<= {target:g}x",
        _verdict(row.ratio, target),
        f"{row.gateway_per_second:,.0f}",
        f"{row.added_p50_ms:+.2f}",
        f"{row.added_p99_ms:+.2f}",
    )
    if row.events is not None:
        nginx, gateway = row.nginx_us / row.events, row.gateway_us / row.events
        yield ("  of which per event", f"{nginx:.1f}", f"{gateway:.1f}", *[""] * 6)
    yield (
        "  with texts on record",
        "",
        f"{row.gateway_us:,.0f}",
        f"{row.texts.share:+.0%}",
        f"<= {MAX_TEXTS_SHARE:+.0%}",
        row.texts.verdict,
        *[""] * 3,
    )
    if row.limits is not None:
        yield _limits_line(row.limits)


def _limits_line(limits: Limits) -> tuple[str, ...]:
    return (
        "  with limits in Redis",
        "",
        f"{limits.gateway_us:,.0f}",
        f"{limits.added_us:+,.0f} us",
        f"<= {MAX_LIMITS_US:+g} us",
        limits.verdict,
        f"{limits.per_second:,.0f}",
        f"{limits.added_p50_ms:+.2f}",
        f"{limits.added_p99_ms:+.2f}",
    )


def _rest(figures: Figures) -> Iterator[str]:
    beside = figures.beside
    if beside is not None:
        yield (
            f"small request beside 4 MB bodies ({beside.large_per_second:.0f}/s): "
            f"p50 {beside.gateway_p50_ms:.1f} ms, p99 {beside.gateway_p99_ms:.1f} ms "
            f"(nginx {beside.nginx_p50_ms:.1f} and {beside.nginx_p99_ms:.1f}); "
            f"target p99 <= {MAX_SMALL_P99_MS:g} ms: "
            f"{_verdict(beside.gateway_p99_ms, MAX_SMALL_P99_MS)}"
        )
    if figures.idle_mib is not None:
        after = "" if figures.after_mib is None else f" ({figures.after_mib:.0f} after the load)"
        yield (
            f"memory of the idle gateway: {figures.idle_mib:.0f} MiB{after}; "
            f"target <= {MAX_IDLE_MIB:g} MiB: {_verdict(figures.idle_mib, MAX_IDLE_MIB)}"
        )
    for fault in figures.faults:
        yield f"WRONG ANSWER: {fault}"


def _verdict(figure: float, most: float) -> str:
    return "ok" if figure <= most else "MISSED"
