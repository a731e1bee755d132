"""Which worker is best for a prompt: the one that need not read it again, else the one that every
replica would choose for its conversation. No I/O and no clock.

What a worker saves is weighed against what it has to do before. A short prompt is not worth waiting
for; of a long one, reading it again elsewhere would cost all others minutes of that worker, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from app.protocol.prefix import PrefixMemory
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.load import STREAM_TOKENS

# Two to four of vLLM's blocks: what is less is found by chance, and read in a quarter of a second.
MIN_SAVED_TOKENS = 2_048
# Up to the first, the worker that has a prompt is taken only if it is not busier than that. From
# the second on it is waited for as long as reading the prompt again would take: half a minute on
# one H100. Between them, proportionately.
FREE_TOKENS = 32 * 1024
HELD_TOKENS = 256 * 1024
# From HELD_TOKENS on a cold prompt pushes most of what a worker has out of its cache. All of them
# share one order of workers, so that the last ones of it keep what they have. In every process: so
# a worker at which others are comes behind those at which nobody is.
_LONGEST = b"longest"
# Of the time that a request may wait at all, what it may wait for one worker: the rest is for any.
PATIENCE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """`saved_tokens` of the prompt are probably in this worker's cache; 0 where they are too few to
    matter. Where it has no room, the next is to be asked only after waiting `patience_seconds`."""

    endpoint: Endpoint
    saved_tokens: int = 0
    patience_seconds: float = 0.0


class Affinity:
    """`floor_tokens_per_second`: how fast a worker reads that was not yet seen to."""

    def __init__(self, memory: PrefixMemory, *, floor_tokens_per_second: float) -> None:
        self._memory = memory
        self._floor_tokens_per_second = floor_tokens_per_second
        self._generations: dict[str, int] = {}

    def rank(self, ask: Ask, endpoints: Sequence[Endpoint], now: float) -> list[Choice]:
        """All of `endpoints`, the best first. `now` is in monotonic seconds."""
        for endpoint in endpoints:
            self._notice(endpoint)
        pressure = {endpoint: endpoint.load.pressure(now) for endpoint in endpoints}
        saved = self._saved(ask, endpoints, now)
        if not saved:
            ranked = _by_rendezvous(ask.conversation, endpoints, ask.prompt_tokens, pressure)
            return [Choice(endpoint) for endpoint in ranked]
        return self._by_savings(ask, saved, pressure)

    def forget_worker(self, name: str) -> None:
        """It is no longer in the pool."""
        self._memory.forget_worker(name)
        self._generations.pop(name, None)

    def _notice(self, endpoint: Endpoint) -> None:
        """A worker of another generation has nothing of what the one before had read."""
        known = self._generations.setdefault(endpoint.name, endpoint.generation)
        if known != endpoint.generation:
            self._generations[endpoint.name] = endpoint.generation
            self._memory.forget_worker(endpoint.name)
        self._memory.has_room_for(endpoint.name, endpoint.load.capacity_tokens)

    def _saved(self, ask: Ask, endpoints: Sequence[Endpoint], now: float) -> dict[Endpoint, int]:
        """In tokens, of those workers that would save enough."""
        known = self._memory.known_at(ask.prefix, now)
        if not known:
            return {}
        saved: dict[Endpoint, int] = {}
        for endpoint in endpoints:
            part = known.get(endpoint.name)
            if part is None:
                continue
            tokens = self._memory.expected_cached_tokens(endpoint.name, part, ask.prompt_tokens)
            if tokens >= MIN_SAVED_TOKENS:
                saved[endpoint] = tokens
        return saved

    def _by_savings(
        self, ask: Ask, saved: Mapping[Endpoint, int], pressure: Mapping[Endpoint, int]
    ) -> list[Choice]:
        """Among those that save about as much, replicas agree as on any conversation. All of them
        are put off together, if others have so much less to do that it outweighs the saving."""
        most = max(saved.values())
        peers = [each for each in pressure if saved.get(each, 0) > most - MIN_SAVED_TOKENS]
        others = [each for each in pressure if saved.get(each, 0) <= most - MIN_SAVED_TOKENS]
        peers = _by_rendezvous(ask.conversation, peers, ask.prompt_tokens - most, pressure)
        if not others:
            return [Choice(each, saved[each]) for each in peers]
        others = _by_rendezvous(ask.conversation, others, ask.prompt_tokens, pressure)
        delay = {each: busy - saved.get(each, 0) for each, busy in pressure.items()}
        others.sort(key=delay.__getitem__)
        elsewhere = max(saved.get(each, 0) for each in others)
        at_stake = most - elsewhere
        held = _held_share(at_stake)
        first = peers[0]
        patience = 0.0
        ranked = peers + others
        if pressure[first] * (1 - held) - saved[first] > delay[others[0]]:
            ranked.sort(key=delay.__getitem__)
        else:
            seconds = self._seconds_for(first, at_stake, elsewhere)
            patience = min(held * seconds, PATIENCE_SHARE * ask.wait_seconds)
        return [
            Choice(each, saved.get(each, 0), patience if each is peers[-1] else 0.0)
            for each in ranked
        ]

    def _seconds_for(self, endpoint: Endpoint, tokens: int, cached_tokens: int) -> float:
        """That reading them takes there, or takes at most where it was not seen to read."""
        seconds = endpoint.load.seconds_for(tokens, cached_tokens)
        return tokens / self._floor_tokens_per_second if seconds is None else seconds


def _held_share(tokens: int) -> float:
    """How far it is held to its worker, from 0 to 1."""
    return min(max((tokens - FREE_TOKENS) / (HELD_TOKENS - FREE_TOKENS), 0.0), 1.0)


def _by_rendezvous(
    conversation: bytes,
    endpoints: Sequence[Endpoint],
    cold_tokens: int,
    pressure: Mapping[Endpoint, int],
) -> list[Endpoint]:
    """In the order that every replica finds: of those where it would wait for no longer than it
    takes to be read itself, by the conversation's hash; then the others, the least busy first.

    Against the least busy one, not against the mean: where one worker reads a million tokens, all
    others are below the mean, and a short question would be given to the busiest of them as soon as
    to an idle one.
    """
    if len(endpoints) <= 1:
        return list(endpoints)
    most = min(pressure[each] for each in endpoints) + STREAM_TOKENS + cold_tokens
    key = _LONGEST if cold_tokens >= HELD_TOKENS else conversation
    within = [each for each in endpoints if pressure[each] <= most]
    within.sort(key=lambda each: _score(key, each.name), reverse=True)
    if key is _LONGEST:
        within.sort(key=_taken_by_others)
    beyond = [each for each in endpoints if pressure[each] > most]
    beyond.sort(key=pressure.__getitem__)
    return within + beyond


def _taken_by_others(endpoint: Endpoint) -> tuple[int, bool]:
    """How many prompts as long other processes probably have there, and whether they have any: one
    that they have only begun to read holds little yet. A finer order would be one of chance."""
    load = endpoint.load
    return load.others_held // HELD_TOKENS, load.others_streams > 0


def _score(conversation: bytes, name: str) -> bytes:
    return blake2b(name.encode(), key=conversation, digest_size=8).digest()
