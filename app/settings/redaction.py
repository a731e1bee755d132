"""Settings in a form that may be shown: as JSON has them, and without their secrets."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from pydantic import AnyUrl, BaseModel, SecretStr

from app.known_secrets import MASK, is_url

# Of a URL's query, what may be seen. Redis takes a password there, too.
_OPEN_OPTIONS = frozenset({"ssl", "sslmode", "host", "port", "db", "protocol"})
_BODY_FIELDS = ("body_defaults", "body_overrides")  # of a worker: the client's place for secrets
_OPTION = re.compile(r"([^&=]*)=([^&]*)")


def shown(value: object) -> Any:
    """Of one setting."""
    match value:
        case SecretStr():
            secret = value.get_secret_value()
            return shown_url(secret) if is_url(secret) else MASK
        case BaseModel():
            return _shown_fields(value)
        case tuple() | frozenset() | list():
            return [shown(each) for each in value]
        case Mapping():
            return {str(name): shown(each) for name, each in value.items()}
        case AnyUrl():
            return shown_url(str(value))
        case Enum():
            return value.value
        case None | bool() | int() | float():
            return value
    text = str(value)
    return shown_url(text) if "://" in text else text


def shown_url(url: str) -> str:
    """All but its password. Where it cannot be told what is one, nothing behind the scheme."""
    scheme = url.partition("://")[0]
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme}://{MASK}"
    credentials, at, place = parts.netloc.rpartition("@")
    # Behind an unescaped `/`, `?` or `#` of a password comes the host's `@`.
    if "@" in parts.path + parts.query + parts.fragment:
        return f"{scheme}://{MASK}"
    if at:
        user, colon, _ = credentials.partition(":")
        # A name alone may be a token, except where peers are known by name.
        known = user if colon or parts.scheme.startswith("postgres") else MASK
        place = f"{known}:{MASK}@{place}" if colon else f"{known}@{place}"
    query = _OPTION.sub(_shown_option, parts.query)
    return parts._replace(netloc=place, query=query).geturl()


def _shown_option(option: re.Match[str]) -> str:
    return option[0] if option[1] in _OPEN_OPTIONS else f"{option[1]}={MASK}"


def _shown_fields(model: BaseModel) -> dict[str, Any]:
    """Those that were given. What goes into a worker's request may be a secret of the engine's."""
    fields: dict[str, Any] = {}
    for name in sorted(model.model_fields_set):
        value = getattr(model, name)
        if name in _BODY_FIELDS:
            fields[name] = dict.fromkeys(value, MASK)
        elif value is not None:
            fields[name] = shown(value)
    return fields
