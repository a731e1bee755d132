"""Settings that cannot be used, in words that say which and what to change. No value is repeated:
it may be a secret."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.settings.forms import ENV_PREFIX, UNREAD

_FORMS: Mapping[str, str] = {
    "workers": 'must be a JSON list, for example ["http://10.0.0.5:8000"]',
    "trusted_proxies": 'must be a JSON list, for example ["10.0.0.0/8"]',
    "thinking_tokens_by_effort": 'must be a JSON object, for example {"low": 1024}',
}


class SettingsError(Exception):
    """Configuration that cannot be used; the text is one line that says what to change.

    `faults` are all that are known, a line each; the text is the first and says how many more.
    """

    def __init__(self, fault: str, *others: str) -> None:
        more = f" (and {len(others)} more: see `gateway config check`)" if others else ""
        super().__init__(fault + more)
        self.faults = (fault, *others)


def settings_error(error: ValidationError) -> SettingsError:
    return SettingsError(*map(_fault, error.errors(include_url=False, include_input=False)))


def _fault(error: ErrorDetails) -> str:
    name, *rest = error["loc"]
    where = ENV_PREFIX + str(name).upper() + "".join(f"[{part}]" for part in rest)
    if error["type"] == UNREAD:
        where += "_FILE"
    reason = _reason(error, str(name))
    return f"{where}: {reason[0].lower()}{reason[1:]}"


def _reason(error: ErrorDetails, name: str) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return "is not a setting of the gateway"
    if kind.startswith("url"):
        return "must be a URL, for example http://10.0.0.5:8000"
    if kind in ("tuple_type", "dict_type"):
        return _FORMS.get(name, "must be a list" if kind == "tuple_type" else "must be an object")
    return error["msg"].removeprefix("Value error, ").partition(", unable")[0]
