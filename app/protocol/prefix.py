"""Which prompts a worker has lately read, so that one which begins alike is not cold.

A prompt is a chain of hashes: each block's covers all that stands before it. The hash is Python's
own: keyed anew in each process, so no one can make two prompts collide, and of no use outside it.

What an engine keeps of a prompt is not every block. This model's state can only be taken up where
the engine left a checkpoint: at the end of a prompt that it read, and where two prompts were seen
to part (vLLM 0.32; a third one that shares so much finds it). Blocks that are merely shared are
known here, too, and it is learned from the workers what they are worth.
"""

from collections import OrderedDict
from dataclasses import dataclass

from app.protocol.prompt_text import PromptText

# About 2,000 tokens, a few of vLLM's own blocks (528 or 1,056 tokens). 4 MB have 512 of them.
BLOCK_BYTES = 8 * 1024
# About 8,000 tokens, read in a second: what is shorter is not worth remembering.
MIN_PREFIX_BYTES = 32 * 1024
# Ends of messages that are looked up, from the last one back: what a follow-up adds to the prompt
# before it. A turn adds two; parallel tool calls add one each.
ENDS_LOOKED_UP = 64

# Of each report in what is believed: ten misses in a row bring it to a tenth, four hits back to
# more than a half.
TRUST_GAIN = 0.2

_END = "end"
_PARTED = "parted"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt's chain, under its tenant. `blocks` are its full blocks, `ends` the last ends of
    messages with the bytes up to each, the prompt's own last. Both are empty for a short one."""

    text_bytes: int
    blocks: tuple[int, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class KnownPrefix:
    """How much of a prompt was read before, as shares of its text: up to a checkpoint, and up to
    the last block that is shared at all."""

    kept: float = 0.0
    shared: float = 0.0  # never less than `kept`


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


class PrefixMemory:
    """What was read in the last `seconds`, in at most `entries` hashes of some 200 bytes each.

    A prompt needs one for each block and one or two more. `now` is in monotonic seconds. Not for
    use from several threads.
    """

    def __init__(self, *, seconds: float, entries: int) -> None:
        self._seconds = seconds
        self._entries = entries
        self._read_at: OrderedDict[int, float] = OrderedDict()  # the longest unread first
        # Believed until a worker says otherwise: a conversation that goes on is the common case.
        self.kept_trust = 1.0
        # The other way round: vLLM finds nothing where only a beginning is shared, and a prompt
        # taken for warm that is cold would pass a guard against just that.
        self.shared_trust = 0.0

    def __len__(self) -> int:
        return len(self._read_at)

    def known(self, prefix: Prefix, now: float) -> KnownPrefix:
        if not prefix.ends:
            return KnownPrefix()
        kept_bytes = self._last_end(prefix, now)
        shared_blocks = self._last_block(prefix, now)
        for count in range(shared_blocks, kept_bytes // BLOCK_BYTES, -1):
            if self._knows(_parted(prefix.blocks[count - 1]), now):
                kept_bytes = count * BLOCK_BYTES
                break
        shared_bytes = max(kept_bytes, shared_blocks * BLOCK_BYTES)
        return KnownPrefix(kept_bytes / prefix.text_bytes, shared_bytes / prefix.text_bytes)

    def expected_cached_tokens(self, known: KnownPrefix, prompt_tokens: int) -> int:
        """How much of the prompt a worker will probably find in its cache."""
        share = known.kept * self.kept_trust + (known.shared - known.kept) * self.shared_trust
        return min(int(share * prompt_tokens), prompt_tokens - 1)

    def remember(self, prefix: Prefix, now: float) -> None:
        """A worker has read this prompt."""
        if not prefix.ends:
            return
        shared_blocks = self._last_block(prefix, now)
        parted = shared_blocks * BLOCK_BYTES > self._last_end(prefix, now)
        # The end of a chain goes first: what is shared by most is to be forgotten last.
        self._put(prefix.ends[-1][0], now)
        for block in reversed(prefix.blocks):
            self._put(block, now)
        if parted:
            self._put(_parted(prefix.blocks[shared_blocks - 1]), now)
        while len(self._read_at) > self._entries:
            self._read_at.popitem(last=False)

    def learn(self, known: KnownPrefix, prompt_tokens: int, cached_tokens: int) -> None:
        """What a worker reported of a prompt of which so much was known."""
        kept = known.kept * prompt_tokens
        if kept > 0:
            hit = min(cached_tokens / kept, 1.0)
            self.kept_trust += TRUST_GAIN * (hit - self.kept_trust)
        more = known.shared * prompt_tokens - kept
        if more > 0:
            hit = min(max((cached_tokens - kept) / more, 0.0), 1.0)
            self.shared_trust += TRUST_GAIN * (hit - self.shared_trust)

    def _last_end(self, prefix: Prefix, now: float) -> int:
        """In bytes; 0 where none is known."""
        ends = (size for end, size in reversed(prefix.ends) if self._knows(end, now))
        return next(ends, 0)

    def _last_block(self, prefix: Prefix, now: float) -> int:
        """How many blocks, from the first on, somebody has sent before."""
        blocks = prefix.blocks
        counts = (n for n in range(len(blocks), 0, -1) if self._knows(blocks[n - 1], now))
        return next(counts, 0)

    def _knows(self, entry: int, now: float) -> bool:
        read_at = self._read_at.get(entry)
        return read_at is not None and now - read_at < self._seconds

    def _put(self, entry: int, now: float) -> None:
        self._read_at[entry] = now
        self._read_at.move_to_end(entry)


def _parted(block: int) -> int:
    return hash((block, _PARTED))
