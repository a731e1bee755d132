"""Which prompts a worker's cache has room for, by what it has read and how much it can hold. No I/O
and no clock.

One prompt of a million tokens pushes out most of what an H100 had. Who does not know that sends
the conversations that were there back to it, all as if they cost nothing.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

# Of a prompt: hashes of all up to the ends of messages, with the bytes up to each, its own last.
Ends = tuple[tuple[int, int], ...]

# Of the cache. The rest is for answers that are being written and for checkpoints: each is as large
# as 1,600 tokens, and a conversation leaves one with every turn.
PROMPTS_SHARE = 0.8
# Of one worker: those that are remembered at all have some 8,000 tokens or more, so this is for
# caches beyond any GPU's. At most 10 KB each, the ends of messages.
MAX_PROMPTS = 1_000


@dataclass(frozen=True, slots=True)
class _Prompt:
    ends: Ends
    text_bytes: int
    own_tokens: int  # that no other prompt here has


class CacheRoom:
    """Of one worker. A conversation is one prompt, its last one."""

    def __init__(self) -> None:
        self.capacity_tokens: int | None = None  # None: it does not say, so nothing is pushed out
        self._prompts: OrderedDict[int, _Prompt] = OrderedDict()  # by its end; longest unused first
        self._tokens = 0

    def take(self, ends: Ends, text_bytes: int, prompt_tokens: int) -> Iterator[Ends]:
        """It has read this; the ends of those prompts for which that leaves no room."""
        if self.capacity_tokens is None:
            return
        before = self._take_out(ends)
        new_bytes = text_bytes - (0 if before is None else before.text_bytes)
        own = prompt_tokens * new_bytes // text_bytes + (0 if before is None else before.own_tokens)
        self._prompts[ends[-1][0]] = _Prompt(ends, text_bytes, own)
        self._tokens += own
        most = PROMPTS_SHARE * self.capacity_tokens
        while (self._tokens > most and len(self._prompts) > 1) or len(self._prompts) > MAX_PROMPTS:
            _, prompt = self._prompts.popitem(last=False)
            self._tokens -= prompt.own_tokens
            yield prompt.ends

    def _take_out(self, ends: Ends) -> _Prompt | None:
        """The prompt that this one goes on with."""
        for end, _ in reversed(ends):
            prompt = self._prompts.pop(end, None)
            if prompt is not None:
                self._tokens -= prompt.own_tokens
                return prompt
        return None
