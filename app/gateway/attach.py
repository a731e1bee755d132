"""The same request, coming again while it is being answered: it gets that answer, from its first
word on, and no worker is asked a second time.

It comes again if its client says so, by the same `Idempotency-Key` or as an SDK counts its tries,
or if the client of the first one is gone. Two that are alike and say nothing of it are two.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.errors import Conflict, InvalidRequest
from app.gateway.asked import Asked, Origin, Terms
from app.gateway.meter import Meter
from app.gateway.running import MAX_FOLLOWERS, About, Run, Running
from app.gateway.types import Caller
from app.protocol.events import Visible
from app.rules.rulebook import Rulebook

IDEMPOTENCY_KEY = "idempotency-key"
MAX_IDEMPOTENCY_KEY_CHARACTERS = 255  # as elsewhere; a UUID has 36
MAX_COUNT_CHARACTERS = 4  # of tries; SDKs make a handful


def origin_of(meter: Meter, rulebook: Rulebook) -> Origin:
    """Of a request that was read. Raises InvalidRequest for an `Idempotency-Key` that is too
    long."""
    principal, request, caller = meter.principal, meter.request, meter.caller
    assert principal is not None  # noqa: S101 - narrows; it was authenticated
    assert request is not None  # noqa: S101 - narrows; it was read
    key = caller.idempotency_key or None
    if key is not None and len(key) > MAX_IDEMPOTENCY_KEY_CHARACTERS:
        raise InvalidRequest(
            f"Invalid value for '{IDEMPOTENCY_KEY}': must have at most "
            f"{MAX_IDEMPOTENCY_KEY_CHARACTERS} characters.",
            param=IDEMPOTENCY_KEY,
        )
    return Origin(
        caller.request_id,
        principal.key_id,
        Asked(caller.route, request),
        Terms(principal.policy, rulebook),
        key,
        _retries(caller),
    )


def find_run(origin: Origin, running: Running) -> Run | None:
    """The run of the same request, if this one may have its answer: of the same key, under the same
    terms. Raises Conflict where its `Idempotency-Key` is in use for another request."""
    key_id = origin.key_id
    runs = running.of_key(key_id) if origin.may_come_again else running.left_of_key(key_id)
    for run in runs:
        if not _comes_again(origin, run):
            continue
        if run.origin.asked != origin.asked:
            if origin.idempotency_key is not None:
                raise Conflict(
                    f"This '{IDEMPOTENCY_KEY}' is in use: another request that has it is being "
                    "answered. Use one key for one request.",
                    code="idempotency_key_in_use",
                )
            continue
        if run.open and run.followers < MAX_FOLLOWERS and run.origin.terms.same_as(origin.terms):
            return run
    return None


async def about(run: Run, news: asyncio.Event) -> About:
    """As soon as the request has been admitted. Raises what it was refused with."""
    while run.about is None and not run.ended:
        await _next(news)
    if run.about is None:
        raise _error_of(run)
    return run.about


async def follow(run: Run, news: asyncio.Event) -> AsyncGenerator[Sequence[Visible], None]:
    """What is shown of the answer, from its first word to its end: all that there is, then each
    piece as it comes. Ends when the answer is on record; raises what it failed with."""
    position = 0
    while True:
        events = run.since(position)
        if events:
            position += len(events)
            yield events
        elif run.ended:
            break
        else:
            await _next(news)
    if run.error is not None:
        raise run.error
    run.taken = True


async def _next(news: asyncio.Event) -> None:
    news.clear()
    await news.wait()


def _comes_again(origin: Origin, run: Run) -> bool:
    first = run.origin
    if first.idempotency_key != origin.idempotency_key:
        return False
    # As many tries before it: it is another one's.
    return origin.idempotency_key is not None or run.client_gone or origin.retries > first.retries


def _retries(caller: Caller) -> int:
    count = caller.retry_count or ""
    return int(count) if count.isdecimal() and len(count) <= MAX_COUNT_CHARACTERS else 0


def _error_of(run: Run) -> Exception:
    assert run.error is not None  # noqa: S101 - it ended before its answer was whole
    return run.error
