"""The rulebook in use, read again when its files change."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from app.rules.document import RulesRefused
from app.rules.load import RuleFile, compile_files, read_files
from app.rules.rulebook import Rulebook

log = structlog.get_logger()


class DefaultProfileMissing(RulesRefused):
    """Of keys that name no profile."""


class RulebookWatch:
    """`current` is always a whole rulebook: one that is refused changes nothing.

    A request takes `current` once and keeps it to its end.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        default_profile: str,
        reload_seconds: float,
        rules_reloaded: Callable[[bool], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Reads the files of `path` (None: only what ships) and compiles them, for a second or so.

        Raises RulesRefused; DefaultProfileMissing where there is no `default_profile`.
        `rules_reloaded` is told of each later change whether it was taken.
        """
        self._path = path
        self._default_profile = default_profile
        self._reload_seconds = reload_seconds
        self._rules_reloaded = rules_reloaded
        self._sleep = sleep
        self._seen: tuple[RuleFile, ...] = () if path is None else read_files(path)
        self._unreadable: str | None = None  # the reason that was told
        self.current: Rulebook = self._compiled(self._seen)

    async def prepare(self) -> None:
        """Compiles what the default profile needs, in a thread."""
        await asyncio.to_thread(self.current.profile(self._default_profile).prepare)

    async def run(self) -> None:
        """Looks every `reload_seconds`, for ever; returns where there is nothing to read.

        Files are compared by what they hold: a mounted volume may change them and keep the times.
        """
        while self._path is not None:
            await self._sleep(self._reload_seconds)
            await self._look(self._path)

    async def _look(self, path: Path) -> None:
        try:
            files = await asyncio.to_thread(read_files, path)
        except RulesRefused as error:
            if self._unreadable != str(error):
                self._unreadable = str(error)
                self._refused(error)
            return
        self._unreadable = None
        if self._seen == files:
            return  # taken, or refused and told
        self._seen = files
        try:
            changed = await asyncio.to_thread(self._compiled, files, previous=self.current)
            await asyncio.to_thread(changed.profile(self._default_profile).prepare)
        except RulesRefused as error:
            self._refused(error)
            return
        self.current = changed
        self._rules_reloaded(True)
        packs = self.current.packs.values()
        log.info(
            "rules_reloaded",
            packs=len(packs),
            rules=sum(len(pack.descriptions) for pack in packs),
            profiles=len(self.current.profiles),
        )

    def _compiled(self, files: Sequence[RuleFile], previous: Rulebook | None = None) -> Rulebook:
        """Without the profile of keys that name none, nearly every request would be refused."""
        rulebook = compile_files(files, previous=previous)
        if self._default_profile not in rulebook.profiles:
            raise DefaultProfileMissing(f'there is no profile "{self._default_profile}"')
        return rulebook

    def _refused(self, error: RulesRefused) -> None:
        self._rules_reloaded(False)
        log.error("rules_refused", reason=str(error))
