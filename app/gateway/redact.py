"""What the audit log masks before it stores a text: the rules of one profile, as they are now."""

import asyncio

import structlog

from app.audit.content.redaction import Redaction, masking
from app.rules.rulebook import Rulebook, UnknownProfile
from app.rules.watch import RulebookWatch
from app.telemetry.metrics import Metrics

POLL_SECONDS = 1.0  # between looks at whether the rules have changed

log = structlog.get_logger()


class RedactionInUse:
    """Gives the redaction by the rulebook in use, some seconds after a change: rules take a while
    to be compiled. A profile that a change takes away, or spoils, masks on as it did."""

    def __init__(self, rules: RulebookWatch, profile: str | None, metrics: Metrics) -> None:
        """Raises UnknownProfile."""
        self._rules = rules
        self._profile = profile
        self._metrics = metrics
        self._of = rules.current
        self._current = self._made(rules.current)

    def __call__(self) -> Redaction:
        return self._current

    async def run(self) -> None:
        """Follows the rules; returns at once where nothing is masked."""
        while self._profile is not None:
            await asyncio.sleep(POLL_SECONDS)
            rulebook = self._rules.current
            if rulebook is self._of:
                continue
            self._of = rulebook
            try:
                self._current = await asyncio.to_thread(self._made, rulebook)
            except UnknownProfile:
                log.error("audit_redaction_profile_gone", profile=self._profile)
            except Exception as error:  # noqa: BLE001 - rules that cannot be compiled end no gateway
                log.error("audit_redaction_unchanged", error=type(error).__name__)

    def _made(self, rulebook: Rulebook) -> Redaction:
        """Compiles, for a second or so."""
        if self._profile is None:
            return Redaction(failed=self._failed)
        profile = rulebook.profile(self._profile)
        rules = masking(profile.input, profile.output)
        rules.prepare()
        return Redaction(rules, self._failed)

    def _failed(self, error: Exception) -> None:
        """Without its words: they may quote the text."""
        self._metrics.audit_redaction_failed()
        log.error("audit_text_not_redacted", error=type(error).__name__)
