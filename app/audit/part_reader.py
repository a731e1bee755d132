"""The chains of a part of the log, each with what it takes to verify it.

That is the event before its first one, from which the first one has to follow; what comes behind
its last one, to the checkpoint that covers it; and, whole, the chains that say what was erased and
dropped: they excuse what is missing in the part, whenever they say so.
"""

from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit.log_reader import LogReader, Part
from app.audit.spool.frames import FrameKind
from app.audit.verify.evidence import StoredEvent

# `kind > 2` is the condition of their index. Each is a command's, with some four events.
_SAYING = f"""
SELECT DISTINCT writer FROM audit_events
WHERE kind > 2 AND kind IN ({FrameKind.ERASURE:d}, {FrameKind.RETENTION:d})
"""  # noqa: S608 - numbers of our own


class PartReader:
    """Every method raises DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, part: Part) -> None:
        self._of_part = LogReader(engine, part)
        self._of_all = LogReader(engine, Part())
        self._is_whole = part.whole
        self._read_whole: set[str] = set()

    async def writers(self) -> set[str]:
        """Whose chains are to be read; to be asked for before them."""
        if not self._is_whole:
            rows = await self._of_all.fetch(_SAYING)
            self._read_whole = {row["writer"] for row in rows}
        return await self._of_part.writers() | self._read_whole

    async def chain(self, writer: str) -> AsyncIterator[list[StoredEvent]]:
        """By the events' numbers."""
        reader = self._of_all if writer in self._read_whole else self._of_part
        first: StoredEvent | None = None
        last: StoredEvent | None = None
        async for events in reader.events(writer):
            if first is None:
                # Whoever may insert can give an event a number that no chain has.
                first = next((each for each in events if each.sequence > 0), None)
                if first is not None and (before := await reader.before(first)):
                    yield before
            yield events
            last = events[-1]
        if first is None or last is None:
            return
        if behind := await reader.behind(writer, last):
            yield behind
