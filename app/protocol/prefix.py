"""Which prompts each worker has lately read, so that one which begins alike is not cold there.

A prompt is a chain of hashes: each block's covers all that stands before it. The hash is Python's
own: keyed anew in each process, so no one can make two prompts collide, and of no use outside it.

What an engine keeps of a prompt is not every block. This model's state can only be taken up where
the engine left a checkpoint: at the end of a prompt that it read, and where two prompts were seen
to part (vLLM 0.32; a third one that shares so much finds it). Blocks that are merely shared are
known here, too, and it is learned from each worker what they are worth.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.protocol.cache_room import CacheRoom, Ends
from app.protocol.prompt_text import PromptText

# About 2,000 tokens, a few of vLLM's own blocks (528 or 1,056 tokens). 4 MB have 512 of them.
BLOCK_BYTES = 8 * 1024
# About 8,000 tokens, read in a second: what is shorter is not worth remembering, and a flood of
# short questions would push the long prompts out. It goes where its conversation goes.
MIN_PREFIX_BYTES = 32 * 1024
# Ends of messages that are looked up, from the last one back: what a follow-up adds to the prompt
# before it. A turn adds two; parallel tool calls add one each.
ENDS_LOOKED_UP = 64

# Of each report in what is believed: ten misses in a row bring it to a tenth, four hits back to
# more than a half.
TRUST_GAIN = 0.2

_END = "end"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt's chain, under its tenant. `blocks` are its full blocks, `ends` the last ends of
    messages with the bytes up to each, the prompt's own last. Both are empty for a short one."""

    text_bytes: int
    blocks: tuple[int, ...] = ()
    ends: Ends = ()


@dataclass(frozen=True, slots=True)
class KnownPrefix:
    """How much of a prompt a worker has read before, as shares of its text: up to a checkpoint, and
    up to the last block that is shared at all."""

    kept: float = 0.0
    shared: float = 0.0  # never less than `kept`


@dataclass(frozen=True, slots=True)
class Trust:
    """How far it is believed that a worker still has what it has read, from 0 to 1."""

    # Believed until the worker says otherwise: a conversation that goes on is the common case.
    kept: float = 1.0
    # The other way round: vLLM finds nothing where only a beginning is shared, and a prompt taken
    # for warm that is cold would pass a guard against just that.
    shared: float = 0.0


NOTHING_KNOWN = KnownPrefix()
NEW_TRUST = Trust()


def prefix_of(text: PromptText, tenant: str) -> Prefix:
    """A millisecond for 4 MB."""
    if text.text_bytes < MIN_PREFIX_BYTES:
        return Prefix(text.text_bytes)
    ends: list[tuple[int, int]] = []
    chain = _Chain(hash(("prefix", tenant)))
    first_end = len(text.sections) - ENDS_LOOKED_UP
    for index, section in enumerate(text.sections):
        for piece in section:
            chain.feed(piece)
        if index >= first_end:
            ends.append(chain.end())
    return Prefix(text.text_bytes, tuple(chain.blocks), tuple(ends))


class _Chain:
    """Bytes in, hashes of blocks out; however the bytes are cut."""

    def __init__(self, state: int) -> None:
        self._state = state
        self._pending: list[bytes] = []  # less than a block
        self._pending_bytes = 0
        self.blocks: list[int] = []

    def feed(self, piece: bytes) -> None:
        at = BLOCK_BYTES - self._pending_bytes
        if at > len(piece):
            self._pending.append(piece)
            self._pending_bytes += len(piece)
            return
        self._close(b"".join([*self._pending, piece[:at]]))
        while at + BLOCK_BYTES <= len(piece):
            self._close(piece[at : at + BLOCK_BYTES])
            at += BLOCK_BYTES
        self._pending = [piece[at:]]
        self._pending_bytes = len(piece) - at

    def end(self) -> tuple[int, int]:
        """A hash of all that came so far, and how many bytes that is."""
        behind = b"".join(self._pending)
        return hash((self._state, behind, _END)), len(self.blocks) * BLOCK_BYTES + len(behind)

    def _close(self, block: bytes) -> None:
        self._state = hash((self._state, block))
        self.blocks.append(self._state)


@dataclass(slots=True)
class _Reader:
    """A worker. Its entries are hashes mixed with a number of its own: those of one that was
    forgotten are found by nobody, and are the first to go."""

    mask: int
    parted_mask: int  # for blocks at whose end two prompts were seen to part
    trust: Trust = NEW_TRUST
    room: CacheRoom = field(default_factory=CacheRoom)


class PrefixMemory:
    """What each worker read in the last `seconds`, in at most `entries` hashes of all workers.

    An entry takes some 200 bytes; a prompt needs one for each block and one or two more, for each
    worker that has read it. `now` is in monotonic seconds. Not for use from several threads.
    """

    def __init__(self, *, seconds: float, entries: int) -> None:
        self._seconds = seconds
        self._entries = entries
        self._read_at: OrderedDict[int, float] = OrderedDict()  # the longest unread first
        self._readers: dict[str, _Reader] = {}
        self._readers_seen = 0

    def __len__(self) -> int:
        return len(self._read_at)

    # -- what is known

    def known_at(self, prefix: Prefix, now: float) -> dict[str, KnownPrefix]:
        """By worker, those that have read anything of it. One that has not costs one look-up."""
        if not prefix.ends:
            return {}
        found: dict[str, KnownPrefix] = {}
        for name, reader in self._readers.items():
            shared_blocks = self._shared_blocks(prefix, reader, now)
            if shared_blocks:
                kept_bytes = self._kept_bytes(prefix, shared_blocks, reader, now)
                shared_bytes = max(kept_bytes, shared_blocks * BLOCK_BYTES)
                size = prefix.text_bytes
                found[name] = KnownPrefix(kept_bytes / size, shared_bytes / size)
        return found

    def trust_in(self, worker: str) -> Trust:
        reader = self._readers.get(worker)
        return NEW_TRUST if reader is None else reader.trust

    def expected_cached_tokens(self, worker: str, known: KnownPrefix, prompt_tokens: int) -> int:
        """How much of the prompt this worker will probably find in its cache."""
        trust = self.trust_in(worker)
        share = known.kept * trust.kept + (known.shared - known.kept) * trust.shared
        return min(int(share * prompt_tokens), prompt_tokens - 1)

    def most_cached_tokens(self, known: Mapping[str, KnownPrefix], prompt_tokens: int) -> int:
        """The same for the worker that has most of it, which is the one to ask."""
        expected = (
            self.expected_cached_tokens(worker, part, prompt_tokens)
            for worker, part in known.items()
        )
        return max(expected, default=0)

    # -- what is learned

    def has_room_for(self, worker: str, tokens: int | None) -> None:
        """In its cache; None: it does not say."""
        reader = self._readers.get(worker) or self._new_reader(worker)
        reader.room.capacity_tokens = tokens

    def remember(self, prefix: Prefix, worker: str, now: float, *, prompt_tokens: int = 0) -> None:
        """The worker has read this prompt, and forgotten those for which it left no room. 0 tokens:
        nobody knows how many."""
        if not prefix.ends:
            return
        reader = self._readers.get(worker) or self._new_reader(worker)
        shared_blocks = self._shared_blocks(prefix, reader, now)
        last_end = self._last_end(prefix, shared_blocks, reader, now)
        # The end of a chain goes first: what is shared by most is to be forgotten last. So whoever
        # knows a block knows all before it.
        for ends in reader.room.take(prefix.ends, prefix.text_bytes, prompt_tokens):
            for end, _ in ends:
                self._read_at.pop(end ^ reader.mask, None)
        self._put(prefix.ends[-1][0] ^ reader.mask, now)
        for block in reversed(prefix.blocks):
            self._put(block ^ reader.mask, now)
        if shared_blocks * BLOCK_BYTES > last_end:
            self._put(prefix.blocks[shared_blocks - 1] ^ reader.parted_mask, now)
        while len(self._read_at) > self._entries:
            self._read_at.popitem(last=False)

    def forget(self, prefix: Prefix, worker: str) -> None:
        """The worker turned out to have nothing of what it had read of this prompt."""
        reader = self._readers.get(worker)
        if reader is None:
            return
        for end, _ in prefix.ends:
            self._read_at.pop(end ^ reader.mask, None)
        for block in prefix.blocks:
            self._read_at.pop(block ^ reader.mask, None)
            self._read_at.pop(block ^ reader.parted_mask, None)

    def forget_worker(self, worker: str) -> None:
        """It has nothing any more: it was restarted, or it is gone."""
        self._readers.pop(worker, None)

    def learn(
        self, worker: str, known: KnownPrefix, prompt_tokens: int, cached_tokens: int
    ) -> None:
        """What the worker reported of a prompt of which it was known to have read so much."""
        reader = self._readers.get(worker)
        if reader is None:
            return
        kept_trust, shared_trust = reader.trust.kept, reader.trust.shared
        kept = known.kept * prompt_tokens
        if kept > 0:
            kept_trust += TRUST_GAIN * (min(cached_tokens / kept, 1.0) - kept_trust)
        more = known.shared * prompt_tokens - kept
        if more > 0:
            hit = min(max((cached_tokens - kept) / more, 0.0), 1.0)
            shared_trust += TRUST_GAIN * (hit - shared_trust)
        reader.trust = Trust(kept_trust, shared_trust)

    def _new_reader(self, worker: str) -> _Reader:
        self._readers_seen += 1
        seed = (worker, self._readers_seen)
        self._readers[worker] = _Reader(hash(("read", *seed)), hash(("parted", *seed)))
        return self._readers[worker]

    def _kept_bytes(self, prefix: Prefix, shared_blocks: int, reader: _Reader, now: float) -> int:
        """Up to the last checkpoint."""
        last_end = self._last_end(prefix, shared_blocks, reader, now)
        for count in range(shared_blocks, last_end // BLOCK_BYTES, -1):
            if self._knows(prefix.blocks[count - 1] ^ reader.parted_mask, now):
                return count * BLOCK_BYTES
        return last_end

    def _last_end(self, prefix: Prefix, shared_blocks: int, reader: _Reader, now: float) -> int:
        """In bytes; 0 where none is known. None is behind the next block."""
        for end, size in reversed(prefix.ends):
            if size // BLOCK_BYTES <= shared_blocks and self._knows(end ^ reader.mask, now):
                return size
        return 0

    def _shared_blocks(self, prefix: Prefix, reader: _Reader, now: float) -> int:
        """How many blocks, from the first on, the worker has read before."""
        blocks, mask = prefix.blocks, reader.mask
        if not self._knows(blocks[0] ^ mask, now):
            return 0
        return bisect_left(blocks, 1, key=lambda block: not self._knows(block ^ mask, now))

    def _knows(self, entry: int, now: float) -> bool:
        read_at = self._read_at.get(entry)
        return read_at is not None and now - read_at < self._seconds

    def _put(self, entry: int, now: float) -> None:
        self._read_at[entry] = now
        self._read_at.move_to_end(entry)
