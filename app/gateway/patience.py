"""How long a client waits for an answer that is not streamed: nothing keeps it alive meanwhile, and
one that gives up only asks again, and has the prompt read again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import GatewayError, GatewayTimeout
from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest
from app.upstream.workers import Workers

# Of the time that a client waits, what is left for the way to it: a tenth, at most so much.
MARGIN_SHARE = 0.1
MAX_MARGIN_SECONDS = 5.0


@contextmanager
def patience(
    meter: Meter, goes_on: Callable[[], bool], leave: Callable[[GatewayError], None]
) -> Iterator[None]:
    """While it is open, `leave` is told when the client will wait no longer. `goes_on` says whether
    the work will do so without it."""
    seconds = _seconds_left(meter)
    if seconds is None:
        yield
        return

    def expired() -> None:
        leave(_too_slow(meter, goes_on=goes_on()))

    timer = asyncio.get_running_loop().call_later(max(0.0, seconds), expired)
    try:
        yield
    finally:
        timer.cancel()


def refuse_hopeless(meter: Meter, prepared: PreparedRequest, workers: Workers) -> None:
    """Raises GatewayTimeout where reading the prompt alone takes longer than the client waits,
    whichever worker reads it."""
    left = _seconds_left(meter)
    if left is None:
        return
    seconds = _least_seconds(workers, prepared, meter.clock())
    if seconds is not None and seconds > left:
        raise _hopeless(meter, seconds)


def _seconds_left(meter: Meter) -> float | None:
    """Until the answer has to leave; None: the client waits as long as it takes."""
    caller, request = meter.caller, meter.request
    if caller.patience_seconds is None or request is None or request.stream:
        return None
    margin = min(MAX_MARGIN_SECONDS, MARGIN_SHARE * caller.patience_seconds)
    return caller.started_at + caller.patience_seconds - margin - meter.clock()


def _least_seconds(workers: Workers, prepared: PreparedRequest, now: float) -> float | None:
    """That reading it takes; None where a worker that takes requests has not shown yet how fast it
    is."""
    seconds = [
        endpoint.load.seconds_for(prepared.cold_tokens, prepared.cached_tokens)
        for endpoint in workers.pool.endpoints
        if endpoint.takes_requests(now)
    ]
    known = [each for each in seconds if each is not None]
    return min(known) if known and len(known) == len(seconds) else None


def _too_slow(meter: Meter, *, goes_on: bool) -> GatewayTimeout:
    again = " It is still being made: the same request, sent again, gets it." if goes_on else ""
    return GatewayTimeout(
        f"The answer takes longer than the {meter.caller.patience_seconds:g} s that your client "
        f"waits for it.{again} {_ADVICE}",
        should_retry=goes_on,
    )


def _hopeless(meter: Meter, seconds: float) -> GatewayTimeout:
    return GatewayTimeout(
        f"Reading this prompt takes about {seconds:.0f} s, and your client waits "
        f"{meter.caller.patience_seconds:g} s for the whole answer. {_ADVICE}",
        should_retry=False,
    )


_ADVICE = "Set 'stream': true: a stream is kept alive. Or let your client wait longer."
