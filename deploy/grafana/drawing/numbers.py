"""Numbers as Grafana writes them in a unit, and the marks of an axis."""

import math

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_SHORT = ("", " K", " Mil", " Bil", " Tri")
_ENDS = {"reqps": " req/s", "ops": " ops/s"}
TARGET_MARKS = 4


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """`unit` is Grafana's name for it."""
    if unit == "s":
        return _seconds(value)
    if unit == "percentunit":
        return _plain(value * 100, decimals) + "%"
    if unit == "bytes":
        return _scaled(value, 1024, _BYTES, " ")
    if unit == "short":
        return _scaled(value, 1000, _SHORT, "") if decimals is None else _plain(value, decimals)
    return _plain(value, decimals) + _ENDS.get(unit, "")


def marks(low: float, high: float, unit: str) -> list[float]:
    """Round values within these bounds."""
    if unit == "bytes" and high - low >= 1024:
        scale = 1024.0 ** int(math.log(high - low, 1024))
        return [mark * scale for mark in marks(low / scale, high / scale, "none")]
    rough = (high - low) / TARGET_MARKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _seconds(value: float) -> str:
    size = abs(value)
    if size >= 3600:
        return f"{value / 3600:.3g} h"
    if size >= 60:
        return f"{value / 60:.3g} min"
    if size >= 1 or value == 0:
        return f"{value:.3g} s"
    if size >= 0.001:
        return f"{value * 1000:.3g} ms"
    return f"{value * 1_000_000:.3g} µs"


def _scaled(value: float, base: int, names: tuple[str, ...], space: str) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{_plain(value, None)}{space}{names[power]}"


def _plain(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
