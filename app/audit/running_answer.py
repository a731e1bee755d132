"""An answer while it is made: what it has said goes to the disk in chunks, for a recovery."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.audit.content.pieces import RedactedPieces
from app.audit.content.redaction import Redaction
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.log import SpoolLog, Written, has_failed
from app.audit.spool.payloads import ChunkPayload, encode_chunk
from app.protocol.events import Visible
from app.protocol.request import Json
from app.protocol.transcript import Transcript

Thoughts = Callable[[], Mapping[int, str]]  # all that was thought so far, by choice


@dataclass(frozen=True, slots=True)
class Keeping:
    """What of running answers is kept, and when."""

    strict: bool  # each piece before it is sent
    chunk_seconds: float
    chunk_characters: int


class RunningAnswer:
    """`thoughts` gives those that are to be kept, whether anything is said meanwhile or not.

    Once `keep_up` was called, chunks are offered by themselves until `close`.
    """

    def __init__(
        self,
        request_id: str,
        tenant: str,
        choices: int,
        thoughts: Thoughts | None,
        redaction: Redaction,
        keeping: Keeping,
        clock: Callable[[], float],
    ) -> None:
        """`clock` is monotonic."""
        self._request_id = request_id
        self._tenant = tenant
        self._transcript = Transcript(choices)
        self._thoughts = thoughts
        self._thoughts_due = 0.0
        self._thought_characters: dict[int, int] = {}  # that are in chunks
        self._redaction = redaction
        self._pieces: RedactedPieces | None = RedactedPieces(redaction)  # None once they failed
        self._keeping = keeping
        self._clock = clock
        self._begun = False  # something was sent, or is about to be
        self._timer: asyncio.TimerHandle | None = None
        self._frames: list[Frame] = []  # of the last offer
        self._written: Written | None = None  # that offer, where it was taken

    def feed(self, events: Sequence[Visible]) -> None:
        self._begun = True
        self._transcript.feed(events)

    def messages(self) -> dict[int, Json]:
        """As the transcript's, with the thoughts; nothing of an answer that has not begun."""
        thoughts = {} if self._thoughts is None else self._thoughts()
        return self._transcript.messages(thoughts) if self._begun or thoughts else {}

    def keep_up(self, spool: SpoolLog, prompt: str | None) -> None:
        """Offers a chunk where so much was said, or else once it is time. `prompt` is the address
        of what is answered, in hexadecimal digits."""
        fresh = self._transcript.fresh_characters
        if fresh >= self._keeping.chunk_characters:
            self._offer(spool, prompt)
        elif fresh or self._thoughts is not None:
            self._offer_in_time(spool, prompt)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def chunk(self, prompt: str | None) -> Frame | None:
        """What is new, and may be kept; None where nothing is."""
        taken, thoughts = self._transcript.taken(), self._new_thoughts()
        choices, thoughts = self._redacted(taken, thoughts)
        if not (choices or thoughts):
            return None
        chunk = ChunkPayload(self._request_id, self._tenant, prompt, choices, thoughts)
        return Frame(FrameKind.CHUNK, encode_chunk(chunk))

    def _offer_in_time(self, spool: SpoolLog, prompt: str | None) -> None:
        """A worker may fall silent for a minute with what was said last on no disk."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                self._keeping.chunk_seconds, self._offer, spool, prompt
            )

    def _offer(self, spool: SpoolLog, prompt: str | None) -> None:
        """To a spool that may refuse it: then it goes with the next, for a text with a hole in it
        would be another text. A disk that hangs has one at a time."""
        self.close()
        written = self._written
        if written is None or written.done():
            if written is not None and not has_failed(written):
                self._frames = []
            chunk = self.chunk(prompt)
            self._frames += [] if chunk is None else [chunk]
            self._written = spool.offer(self._frames) if self._frames else None
        if self._thoughts is not None or self._frames:
            self._offer_in_time(spool, prompt)

    def _new_thoughts(self) -> dict[str, str]:
        """Not more often than in time: they are put together from all their pieces."""
        if self._thoughts is None or self._clock() < self._thoughts_due:
            return {}
        self._thoughts_due = self._clock() + self._keeping.chunk_seconds / 2
        new = {}
        for choice, thought in self._thoughts().items():
            kept = self._thought_characters.get(choice, 0)
            if len(thought) > kept:
                self._thought_characters[choice] = len(thought)
                new[str(choice)] = thought[kept:]
        return new

    def _redacted(
        self, choices: dict[str, Any], thoughts: dict[str, str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Without those of which all is held back."""
        pieces = self._pieces
        if pieces is None:
            return {}, {}
        try:
            parts = {name: pieces.part(name, part) for name, part in choices.items()}
            thought = {name: pieces.text(name, "thought", new) for name, new in thoughts.items()}
        except Exception as error:  # noqa: BLE001 - whatever failed, the text was not searched
            self._redaction.failed(error)
            self._pieces = None
            return {}, {}
        return _those_with_text(parts), _those_with_text(thought)


def _those_with_text(by_choice: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in by_choice.items() if part}
