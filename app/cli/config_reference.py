"""docs/configuration.md, made of the settings: what each means stands with it, and nowhere else."""

import inspect
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import AnyHttpUrl, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from app.settings import SECRETS
from app.settings.forms import ENV_PREFIX, KIB, MIB, Theme
from app.settings.worker import WorkerSettings

HEAD = """# Configuration

<!-- Made by `gateway config reference` of what stands with each setting in the code. -->

A setting is read from the environment under its name below, else from the YAML file that
`GATEWAY_CONFIG` names, under the same name in lower case and without `GATEWAY_`:

    GATEWAY_QUEUE_SECONDS=120          queue_seconds: 120
    GATEWAY_TRUSTED_PROXIES='["10.0.0.0/8"]'
                                       trusted_proxies: [10.0.0.0/8]

Lists and objects are JSON in the environment. The environment wins; a name in the file that is no
setting stops the start, and one in the environment is warned of. `gateway config check` names all
that is wrong with the settings, `gateway config print --all` shows what is in force and where each
comes from, and `gateway doctor` asks the database, Redis and the workers as well.
"""

_COLUMNS = "| environment and file | value | default | |\n|---|---|---|---|"
_WORKER = """## Fields of a worker

Of an entry of `GATEWAY_WORKERS`, of the file that `GATEWAY_WORKERS_FILE` names, and of
`GATEWAY_WORKERS_DNS`. A URL alone is `{"url": ...}`.

| field | value | default | |
|---|---|---|---|"""

# What the end of a name says of its unit, the longer ends first.
_UNITS = (
    ("_tokens_per_second", "tokens a second"),
    ("_bytes_per_second", "bytes a second"),
    ("_per_minute", "a minute"),
    ("_seconds", "seconds"),
    ("_bytes", "bytes"),
    ("_tokens", "tokens"),
    ("_tokens_by_effort", "tokens"),
    ("_characters", "characters"),
)
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def reference(settings: type[BaseModel]) -> str:
    themes = [theme for theme in settings.__mro__ if issubclass(theme, Theme) and own(theme)]
    parts = [HEAD, *(_part(theme) for theme in themes), _worker_part()]
    return "\n".join(parts)


def own(theme: type[BaseModel]) -> list[str]:
    """The names of the settings that are its own, in their order."""
    return [name for name in inspect.get_annotations(theme) if name in theme.model_fields]


def _part(theme: type[BaseModel]) -> str:
    title, _, words = (inspect.getdoc(theme) or "").partition("\n\n")
    rows = "\n".join(_rows(theme, own(theme), _both_names))
    intro = f"\n{words.strip()}\n" if words.strip() else ""
    return f"## {title.strip()}\n{intro}\n{_COLUMNS}\n{rows}\n"


def _worker_part() -> str:
    return (
        _WORKER
        + "\n"
        + "\n".join(_rows(WorkerSettings, own(WorkerSettings), "`{0}`".format))
        + "\n"
    )


def _both_names(name: str) -> str:
    variable = f"{ENV_PREFIX}{name.upper()}"
    also = f"<br>`{variable}_FILE`" if name in SECRETS else ""
    return f"`{variable}`{also}<br>`{name}`"


def _rows(model: type[BaseModel], names: list[str], called: Any) -> Iterator[str]:
    for name in names:
        field = model.model_fields[name]
        words = " ".join((field.description or "").split())
        cells = (called(name), _value(name, field), _default(name, field), words)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(name: str, field: FieldInfo) -> str:
    """Its type, unit and bounds."""
    kinds = set(_kinds(field.annotation))
    unit = next((unit for end, unit in _UNITS if name.endswith(end)), None)
    bounds = ", ".join(_bounds(field))
    if bool in kinds:
        return "`true` or `false`"
    if choices := [kind for kind in kinds if issubclass(kind, Enum)]:
        return ", ".join(f"`{each.value}`" for each in choices[0])
    words = _form(kinds, unit)
    return f"{words}, {bounds}" if bounds else words


def _form(kinds: set[type], unit: str | None) -> str:
    if WorkerSettings in kinds:
        return "workers"
    if SecretStr in kinds:
        return "secret"
    if dict in kinds:
        return f"object of {unit}" if unit else "object"
    if kinds & {tuple, frozenset, list}:
        return "list"
    if kinds & {int, float}:
        return unit or ("number" if int in kinds else "share")
    if AnyHttpUrl in kinds:
        return "URL"
    return "path" if Path in kinds else "text"


def _kinds(annotation: Any) -> Iterator[type]:
    """The types that it is made of."""
    origin = get_origin(annotation)
    kind = origin if origin is not None else annotation
    if isinstance(kind, type):
        yield kind
    for argument in get_args(annotation):
        yield from _kinds(argument)


def _bounds(field: FieldInfo) -> Iterator[str]:
    for limit in field.metadata:
        for name, words in _BOUNDS.items():
            value = getattr(limit, name, None)
            if value is not None:
                yield words.format(_number(value))


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required():
        return "(required)"
    if value in (None, (), {}, frozenset()):
        return ""
    if isinstance(value, bool | Enum | str | Path):
        return f"`{json.dumps(value) if isinstance(value, bool) else value}`"
    if isinstance(value, Mapping):
        return f"`{json.dumps(value)}`"
    plain = f"`{value}`" if isinstance(value, int) else f"`{value:g}`"  # to be copied
    return plain + (_as_size(value) if name.endswith("_bytes") else "")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _as_size(value: int) -> str:
    for unit, size in (("MiB", MIB), ("KiB", KIB)):
        if value >= size and not value % size:
            return f" ({value // size} {unit})"
    return ""
