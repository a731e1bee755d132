"""Whether a prompt can be read at all within the time that its client waits."""

from dataclasses import replace
from typing import cast

import pytest

from app.errors import GatewayTimeout
from app.gateway.meter import Meter
from app.gateway.patience import refuse_hopeless
from app.gateway.types import PreparedRequest
from app.upstream.load import Demand
from app.upstream.pool import Pool
from app.upstream.workers import Workers
from tests.support.workers_asked import pool_of
from tests.unit.gateway.preparing import CALLER, REQUEST

MILLION = 1_000_000


class Waited:
    """A client that waits so long, and workers of which the dispatcher is not asked."""

    def __init__(self, seconds: float, pool: Pool) -> None:
        self.meter = Meter(replace(CALLER, patience_seconds=seconds), lambda: CALLER.started_at)
        self.meter.request = REQUEST
        self._workers = cast(Workers, self)
        self.pool = pool

    def asks(self, tokens: int, cached_tokens: int = 0) -> None:
        prepared = PreparedRequest(
            REQUEST, {}, 1_000, tokens, tokens + 1_000, False, cached_tokens=cached_tokens
        )
        refuse_hopeless(self.meter, prepared, self._workers)


def seen(*seconds: float | None) -> Pool:
    """Workers that were seen to read 8,000 tokens in so many seconds."""
    pool = pool_of(*[None] * len(seconds))
    for endpoint, each in zip(pool.endpoints, seconds, strict=True):
        if each is not None:
            load = endpoint.load
            load.began(load.reserve(Demand(8_000, 0), 0.0), each)
    return pool


def test_a_million_tokens_take_longer_than_short_prompts_let_expect() -> None:
    """40 s if the end of it were read as fast as its beginning, and more than three minutes as it
    is."""
    with pytest.raises(GatewayTimeout, match=r"takes about 2[0-9]{2} s"):
        Waited(60, seen(0.33)).asks(MILLION)
    Waited(600, seen(0.33)).asks(MILLION)


def test_what_is_in_a_cache_takes_no_time_but_what_follows_it_takes_longer() -> None:
    Waited(30, seen(0.33)).asks(MILLION, cached_tokens=950_000)
    with pytest.raises(GatewayTimeout):
        Waited(10, seen(0.33)).asks(MILLION, cached_tokens=950_000)
    Waited(10, seen(0.33)).asks(50_000)


def test_one_that_may_be_fast_enough_is_tried() -> None:
    Waited(60, seen(0.33, None)).asks(MILLION)
    Waited(60, seen(0.33, 0.05)).asks(MILLION)
