"""Keys, and the rules that prompts and answers are held to."""

from pathlib import Path

from pydantic import Field

from app.settings.forms import Theme


class KeySettings(Theme):
    """Keys

    See [Keys, policies and plans](keys.md).
    """

    key_cache_seconds: float = Field(default=5.0, gt=0, le=5)
    """How long a key that was looked up is known: a revocation acts everywhere within this time,
    which is why it may not be longer."""

    key_outage_seconds: float = Field(default=0.0, ge=0, le=86_400)
    """While the database is away, keys that it confirmed so long ago at most work on, and what is
    revoked meanwhile may, too. With 0 nobody is let in after `GATEWAY_KEY_CACHE_SECONDS`."""

    key_cache_entries: int = Field(default=10_000, ge=1)
    """Keys that one process knows at a time: some 1 KiB each, without tool rules."""


class RuleSettings(Theme):
    """Filter rules

    See [What is filtered](filters.md).
    """

    rules: Path | None = None
    """A file of packs and profiles of your own, or a directory of them, beside those that ship."""

    rules_reload_seconds: float = Field(default=5.0, gt=0)
    """How often they are looked at: a change acts within this time. One that is refused changes
    nothing."""

    filter_profile: str = Field(default="default", min_length=1)
    """The profile of keys that name none."""
