"""A worker's prefix cache, as vLLM 0.32 keeps one for this model."""

import random
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

from app.sizing.model import KvType, block_tokens

BLOCK_TOKENS = block_tokens(1, KvType.BF16)
# The state of the GDN layers, 52 MB: as much memory as three blocks.
CHECKPOINT_BLOCKS = 3


class PrefixCache:
    """Blocks and checkpoints, the longest unused of which go first, of a prompt the last ones.

    A prompt can be taken up only at a checkpoint: at the last full block of one that was read, and
    where two prompts were seen to part. `ends_kept` is the share of the former that there are: in
    trials on vLLM 0.32, of prompts asked again at once, only some were found.
    """

    def __init__(self, blocks: int, *, ends_kept: float, chance: random.Random) -> None:
        self._limit = blocks
        self._ends_kept = ends_kept
        self._chance = chance
        # With the memory that each takes, in blocks. A checkpoint has the name that is its block's
        # complement.
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._size = 0

    def find(self, blocks: Sequence[int]) -> int:
        """How many blocks of a prompt need not be read. They are in use from now on."""
        for count in range(self._shared(blocks), 0, -1):
            if ~blocks[count - 1] in self._kept:
                self._kept.move_to_end(~blocks[count - 1])
                self._use(blocks[:count])
                return count
        return 0

    def read(self, blocks: Sequence[int]) -> None:
        """The prompt has been read, from wherever it was found on."""
        if not blocks:
            return
        shared = self._shared(blocks)
        self._use(blocks)
        if shared:
            self._keep(~blocks[shared - 1], CHECKPOINT_BLOCKS)
        if self._chance.random() < self._ends_kept:
            self._keep(~blocks[-1], CHECKPOINT_BLOCKS)
        while self._size > self._limit:
            self._size -= self._kept.popitem(last=False)[1]

    def _use(self, blocks: Sequence[int]) -> None:
        for block in reversed(blocks):
            self._keep(block, 1)

    def _keep(self, name: int, size: int) -> None:
        if name in self._kept:
            self._kept.move_to_end(name)
        else:
            self._kept[name] = size
            self._size += size

    def _shared(self, blocks: Sequence[int]) -> int:
        """Who has a block has all before it: they were used no longer ago."""
        return bisect_left(blocks, 1, key=lambda block: block not in self._kept)
