"""Gateways as processes of their own: some serve, some start, and any of them is killed."""

import random
import socket
from dataclasses import dataclass, field

from tests.integration.audit.promises.asking import WITHIN_SECONDS
from tests.integration.audit.promises.nursery import Forked, Nursery
from tests.integration.audit.promises.witnesses import Serving, Witnesses
from tests.support.conditions import eventually

# What the clients see of all processes between two kills: heads, pieces of streams, ends.
MAX_SIGHTS = 60


@dataclass
class Fleet:
    """`most_serving` at once. Every other one is strict. Of those that start, the share `stillborn`
    is killed before it serves."""

    gateways: Nursery
    clients: Witnesses
    chance: random.Random
    settings: dict[str, object]
    most_serving: int
    stillborn: float = 0.0
    serving: dict[Serving, Forked] = field(default_factory=dict)
    started: int = 0

    async def start(self) -> tuple[Serving, Forked]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        strict = self.started % 2 == 0
        self.started += 1
        forked = await self.gateways.start(port, audit_strict=strict, **self.settings)
        return Serving(forked.url, strict), forked

    async def replenish(self) -> None:
        """Until so many serve as should; some that start are killed instead."""
        while len(self.serving) < self.most_serving:
            serving, forked = await self.start()
            if self.chance.random() < self.stillborn:
                await self.after_sights(MAX_SIGHTS // 4)
                await forked.kill()
                continue
            await forked.until_ready()
            self.serving[serving] = forked
            self.clients.serving.append(serving)

    async def kill_one(self) -> None:
        await self.after_sights()
        await self.kill(self.chance.choice(list(self.serving)))

    async def kill(self, serving: Serving) -> None:
        await self.serving[serving].kill()
        del self.serving[serving]
        self.clients.serving.remove(serving)

    async def after_sights(self, most: int = MAX_SIGHTS) -> None:
        if not self.serving:  # nobody sees anything
            return
        enough = self.clients.sights + self.chance.randrange(most)
        await eventually(
            lambda: self.clients.sights >= enough, WITHIN_SECONDS, "the clients are served"
        )
