"""Draws the pictures in `docs/dashboards/`: minutes of mixed traffic, now more and now less, on a
gateway with the embedded model and scripted workers, watched by a real Prometheus.

    python -m tests.support.mixed_traffic_run --minutes 5
"""

import argparse
import asyncio
import logging
import math
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from app.embedded.postgres import embedded_postgres
from app.embedded.worker import embedded_worker
from app.store.database import create_engine
from app.store.migrate import upgrade
from deploy.grafana.draw import draw_all, last
from deploy.grafana.query import Prometheus
from tests.deploy.alert_rules import ALERTS, RECORDING
from tests.support.mixed_traffic import MixedTraffic, mixed_gateway
from tests.support.prometheus import SCRAPE_SECONDS, running_prometheus
from tests.support.redis_server import VALKEY, running_server

PICTURES = Path(__file__).parents[2] / "docs" / "dashboards"
WAVE_SECONDS = 100.0  # from one busy time to the next
FIRST_MINUTES = 0.5  # in which there are no rates yet
MOST_AT_ONCE = 5  # kinds of requests
STAND_IN_TAG = "stand-in"


async def run(minutes: float) -> None:
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="qwythos-") as home, running_server(VALKEY) as redis:
        async with _database(Path(home)) as url, embedded_worker(Path(home), None) as stand_in:
            worker = stand_in.settings().model_dump(mode="json")
            worker |= {"api_key": stand_in.api_key, "tags": [STAND_IN_TAG]}
            async with (
                mixed_gateway(url, redis.url, worker) as traffic,
                running_prometheus(traffic.gateway.port, [RECORDING, ALERTS]) as prometheus,
            ):
                await _vary(traffic, minutes)
                span = last(minutes - FIRST_MINUTES, SCRAPE_SECONDS)
                for path in await asyncio.to_thread(
                    draw_all, Prometheus(prometheus), span, PICTURES
                ):
                    print(path)  # noqa: T201 - the result of a program


@asynccontextmanager
async def _database(home: Path) -> AsyncIterator[str]:
    async with embedded_postgres(home) as url:
        engine = create_engine(url)
        await upgrade(engine)
        await engine.dispose()
        yield url


async def _vary(traffic: MixedTraffic, minutes: float) -> None:
    """Kinds of requests at random, few at a time and then more."""
    loop = asyncio.get_running_loop()
    end = loop.time() + minutes * 60
    key = await traffic.gateway.issue_key(worker_tags=[STAND_IN_TAG])
    chance = random.Random(9)

    async def one_after_another(number: int) -> None:
        while (now := loop.time()) < end:
            busy = (1 + math.sin(2 * math.pi * now / WAVE_SECONDS)) / 2
            if number > 0 and chance.random() > busy:
                await asyncio.sleep(1)
                continue
            await traffic.ask_for(chance.choice(traffic.kinds))

    async def question() -> None:
        text = f"Tell me about the number {chance.randrange(1_000)}."
        message = {"role": "user", "content": text}
        await traffic.gateway.chat(key=key, messages=[message], max_tokens=120, stream=True)

    async def questions() -> None:
        while loop.time() < end:
            await traffic.ask_for(question)

    await asyncio.gather(questions(), *(one_after_another(n) for n in range(MOST_AT_ONCE)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the boards after minutes of mixed traffic.")
    parser.add_argument("--minutes", type=float, default=5.0)
    asyncio.run(run(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
