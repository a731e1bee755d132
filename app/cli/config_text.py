"""The settings in force as text that could be used again, but for the secrets."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import yaml

from app.settings import Settings, Source, sources_of_settings
from app.settings.forms import ENV_PREFIX
from app.settings.redaction import shown

_WORDS = {
    Source.ENVIRONMENT: "from the environment",
    Source.SECRET_FILE: "from files that variables ending in _FILE name",
    Source.CONFIG_FILE: "from the file that GATEWAY_CONFIG names",
    Source.DEFAULT: "by default",
}


def effective(settings: Settings, form: str, *, with_defaults: bool) -> str:
    """Those of each source under a comment that names it. Raises SettingsError."""
    sources = sources_of_settings()
    write = FORMS[form]
    parts = []
    for source, words in _WORDS.items():
        names = [name for name in sorted(sources) if sources[name] is source]
        values = {name: shown(getattr(settings, name)) for name in names}
        if values and (with_defaults or source is not Source.DEFAULT):
            parts.append("\n".join([f"# {words}", *write(values)]))
    return "\n\n".join(parts) or "# nothing is set: all is as it is by default"


def _environment(values: Mapping[str, Any]) -> Iterable[str]:
    """For a shell. What is None cannot be said there."""
    for name, value in values.items():
        variable = ENV_PREFIX + name.upper()
        yield f"# {variable} is not set" if value is None else f"{variable}={_quoted(value)}"


def _quoted(value: object) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _yaml(values: Mapping[str, Any]) -> Iterable[str]:
    return yaml.safe_dump(dict(values), sort_keys=False).splitlines()


FORMS: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "env": _environment,
    "yaml": _yaml,
}
