"""Which worker a request goes to, of those that could take it. No I/O and no clock.

The ranking says which would be best: the one that knows the prompt's beginning, else the one that
every replica would choose for the conversation. Here it is decided which of them has room, and
whether the best one is worth waiting for. Workers are kept to what they are for: the one with the
smallest context that holds the request comes first, so that short prompts do not stand where long
ones are read.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import ColdPrefillTooLong
from app.protocol.token_estimate import LIKELY_ERROR
from app.upstream.ask import Ask
from app.upstream.endpoint import Endpoint
from app.upstream.engines import unsupported
from app.upstream.load import Demand

# Tags that say what a worker is for, where its context does not.
SHORT, LONG = "short", "long"


class Choice(Protocol):
    """Of a prompt, `saved_tokens` are those that this worker has in its cache: 0 where they are too
    few to matter. It is worth waiting `patience_seconds` for it rather than asking the next."""

    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def saved_tokens(self) -> int: ...
    @property
    def patience_seconds(self) -> float: ...


class Ranking(Protocol):
    def rank(self, ask: Ask, endpoints: Sequence[Endpoint], now: float) -> Sequence[Choice]:
        """All of them, the best one first. `now` is in monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Option:
    """`spare`: there are workers with a smaller context that would do, and nothing is saved here,
    so that a long prompt that is being read is not to be disturbed. `reason`: see PoolMetrics."""

    endpoint: Endpoint
    demand: Demand
    saved_tokens: int
    patience_seconds: float
    spare: bool
    reason: str


def eligible(
    ask: Ask, endpoints: Sequence[Endpoint], but: Collection[Endpoint], now: float
) -> list[Endpoint]:
    """Those that could take it if they had room."""
    found = [endpoint for endpoint in endpoints if _could_take(ask, endpoint, now)]
    if not ask.needed_tokens and found:
        # Nobody knows how long it is: not where it is sure not to fit, if it may fit elsewhere.
        longest = max(endpoint.context_tokens for endpoint in found)
        least = min(ask.prompt_tokens, longest)
        found = [endpoint for endpoint in found if endpoint.context_tokens >= least]
    first = [endpoint for endpoint in found if not endpoint.last_resort]
    found = first or found
    return [endpoint for endpoint in found if endpoint not in but] if but else found


def _could_take(ask: Ask, endpoint: Endpoint, now: float) -> bool:
    return (
        endpoint.takes_requests(now)
        and endpoint.context_tokens >= ask.needed_tokens
        and ask.tags <= endpoint.tags
        and unsupported(endpoint.dialect, ask.fields) is None
    )


@dataclass(frozen=True, slots=True)
class _ReadBy:
    endpoint: Endpoint
    saved_tokens: int
    patience_seconds: float


def options(
    ask: Ask, ranked: Sequence[Choice], *, output_share: float, long_tokens: int
) -> list[Option]:
    """What there is to choose from, the best first. `output_share`: of the longest answer, what a
    worker is taken to hold for it; prompts above `long_tokens` are long ones.

    Raises ColdPrefillTooLong where there is something, but none that has so little to read.
    """
    if ask.read_by is not None:
        ranked = _with_reader(ask, ask.read_by, ranked, long_tokens)
    found = _options(ask, ranked, output_share, long_tokens)
    limit = ask.max_cold_tokens
    if limit is None or not found:
        return found
    # What let it pass was an estimate, too, and need not agree to the token.
    within = [option for option in found if option.demand.cold_tokens <= limit * LIKELY_ERROR]
    if not within:
        cold = min(option.demand.cold_tokens for option in found)
        raise ColdPrefillTooLong(cold, limit, param="messages" if ask.chat else "prompt")
    return within


def _with_reader(
    ask: Ask, reader: Endpoint, ranked: Sequence[Choice], long_tokens: int
) -> Sequence[Choice]:
    """That one first. A long prompt waits for it, but not longer than for any worker."""
    others = [choice for choice in ranked if choice.endpoint is not reader]
    if len(others) == len(ranked):
        return ranked
    patience = ask.wait_seconds / 2 if ask.prompt_tokens > long_tokens else 0.0
    return [_ReadBy(reader, ask.prompt_tokens, patience), *others]


def _options(
    ask: Ask, ranked: Sequence[Choice], output_share: float, long_tokens: int
) -> list[Option]:
    held = ask.prompt_tokens + int(ask.output_tokens * output_share)
    long = ask.prompt_tokens > long_tokens
    classes = [_size_class(choice.endpoint, long=long) for choice in ranked]
    smallest = min(classes, default=(0, 0))
    if any(each != smallest for each in classes):
        # Those that are meant for it or save something stay as they were ranked; the rest is last.
        order = sorted(
            range(len(ranked)), key=lambda at: smallest if ranked[at].saved_tokens else classes[at]
        )
        ranked, classes = [ranked[at] for at in order], [classes[at] for at in order]
    found: list[Option] = []
    for choice, size_class in zip(ranked, classes, strict=True):
        saved = min(choice.saved_tokens, ask.prompt_tokens)
        spare = size_class != smallest and not saved
        demand = Demand(ask.prompt_tokens - saved, held, saved)
        reason = _reason(saved, spare=spare, first=not found)
        found.append(Option(choice.endpoint, demand, saved, choice.patience_seconds, spare, reason))
    return found


def _size_class(endpoint: Endpoint, *, long: bool) -> tuple[int, int]:
    """The lower, the sooner it is asked."""
    tags = endpoint.tags
    meant = SHORT not in tags if long else SHORT in tags
    not_meant = SHORT in tags if long else LONG in tags
    return (0 if meant else 2 if not_meant else 1), endpoint.context_tokens


def _reason(saved: int, *, spare: bool, first: bool) -> str:
    if saved:
        return "affinity"
    if spare:
        return "overflow"
    return "rendezvous" if first else "load"


NO_CLAIMS: Mapping[Endpoint, Demand] = {}


def choose(
    found: Sequence[Option],
    now: float,
    *,
    waited_seconds: float | None,
    claims: Mapping[Endpoint, Demand] = NO_CLAIMS,
) -> Option | None:
    """The best one that has room, or None where it has to wait, be it for a worker that is worth
    it. With `waited_seconds` None no worker is. `claims` are what others were promised: of a worker
    whom somebody waits for, only what does not delay it is given away."""
    for option in found:
        endpoint = option.endpoint
        if not endpoint.takes_requests(now):
            continue
        if _is_free(option, claims.get(endpoint), now):
            return option
        if waited_seconds is not None and waited_seconds < option.patience_seconds:
            return None
    return None


def _is_free(option: Option, claim: Demand | None, now: float) -> bool:
    load, demand = option.endpoint.load, option.demand
    if option.spare and load.long_prefills and demand.cold_tokens <= load.rules.long_prefill_tokens:
        return False
    if not load.has_room(demand, now):
        return False
    return claim is None or load.leaves_room(demand, claim, now)
