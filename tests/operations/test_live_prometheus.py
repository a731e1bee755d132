"""A real Prometheus scrapes a gateway under traffic of every kind: what boards and alerts ask it is
answered."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deploy.grafana.build import DASHBOARDS
from deploy.grafana.draw import draw_all
from deploy.grafana.drawing.frame import NO_DATA
from deploy.grafana.query import Prometheus, Span
from tests.deploy.alert_rules import ALERTS, RECORDING, alerts, query_of, records
from tests.support.mixed_traffic import mixed_gateway
from tests.support.prometheus import BINARY, MISSING, SCRAPE_SECONDS, running_prometheus

# It takes half a minute, as some rules look at every 30 s; the rest is for a busy machine.
ANSWERED_SECONDS = 240.0

pytestmark = pytest.mark.skipif(BINARY is None, reason=MISSING)


def panel_queries() -> Iterator[tuple[str, str]]:
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            yield f"{path.stem}: {annotation['name']}", annotation["expr"]


def rule_queries() -> Iterator[tuple[str, str]]:
    """What is looked at by an alert, without the comparison that makes it one."""
    for alert in alerts():
        yield f"alert: {alert.case}", query_of(alert.expr)
    for name, expr in records().items():
        yield f"record: {name}", expr


def unanswered(url: str, queries: dict[str, str], since: float) -> dict[str, str]:
    """Those without a single finite number since then."""
    asked = Prometheus(url)
    span = Span(since, time.time(), SCRAPE_SECONDS, SCRAPE_SECONDS)
    return {
        name: expr for name, expr in queries.items() if not asked.over(span.filled_in(expr), span)
    }


async def test_every_panel_and_every_rule_is_answered_under_traffic_and_the_boards_drawn(
    database_url: str, newest_redis_url: str, tmp_path: Path
) -> None:
    since = time.time()
    queries = [*panel_queries(), *rule_queries()]
    missing = dict(queries)
    assert len(missing) == len(queries)  # each has a name of its own
    async with (
        mixed_gateway(database_url, newest_redis_url) as traffic,
        running_prometheus(traffic.gateway.port, [RECORDING, ALERTS]) as url,
    ):
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWERED_SECONDS
        while missing and loop.time() < deadline:
            await traffic.round()
            missing = await asyncio.to_thread(unanswered, url, missing, since)
        span = Span(since, time.time(), SCRAPE_SECONDS, SCRAPE_SECONDS)
        pictures = await asyncio.to_thread(draw_all, Prometheus(url), span, tmp_path)
    assert sorted(missing.items()) == []
    assert [path.stem for path in pictures] == ["latency", "overview", "safety"]
    for path in pictures:
        drawn = path.read_text("utf-8")
        ElementTree.fromstring(drawn)  # noqa: S314 - our own
        assert NO_DATA not in drawn, path.stem
