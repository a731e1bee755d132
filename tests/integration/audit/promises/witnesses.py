"""Clients that hold conversations with whichever gateway serves, and remember all that they saw."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
import orjson

from tests.support.gateway import CHAT, Json

POLL_SECONDS = 0.01
REFUSED_SECONDS = 0.05  # until who was refused asks again
MAX_TURNS = 6  # of a conversation; its history is sent with each
STREAMED = 0.7  # of all requests
CHARACTERS = 1_000_000  # of padding, to be cut from


@dataclass(frozen=True)
class Serving:
    """`strict`: every piece of an answer is on disk before it is sent."""

    url: str
    strict: bool = False


@dataclass
class Seen:
    """What a client asked, and what came of it: of a stream perhaps not all, without `ended`."""

    asked: list[Json]
    stream: bool
    strict: bool
    raw: bytes = b""

    @property
    def ended(self) -> bool:
        """A client could rely on either sign of it."""
        whole = b"[DONE]" in self.raw and b'"error":' not in self.raw
        return whole or b'"finish_reason":"stop"' in self.raw

    @property
    def any_output(self) -> bool:
        """Also the first sign of an answer; comments are none."""
        return b'"role":"assistant"' in self.raw

    @property
    def text(self) -> str:
        """Of the events that have come whole, or of the whole body."""
        if not self.stream:
            return str(_content(orjson.loads(self.raw), "message")) if self.ended else ""
        *events, _ = self.raw.split(b"\n\n")
        bodies = (event[len(b"data: ") :] for event in events if event.startswith(b"data: {"))
        return "".join(_content(orjson.loads(body), "delta") for body in bodies)


def _content(event: Json, where: str) -> str:
    return "".join(choice[where].get("content") or "" for choice in event.get("choices", ()))


@dataclass
class Witnesses:
    """`sights` counts what they see: heads, pieces, ends. Each question has up to so many
    `characters`."""

    key: str
    chance: random.Random
    characters: int = 2_000
    serving: list[Serving] = field(default_factory=list)
    sights: int = 0
    seen: dict[str, Seen] = field(default_factory=dict)  # by request id
    served: set[str] = field(default_factory=set)  # URLs of gateways that they had an answer from
    refusals: Counter[str] = field(default_factory=Counter)  # by code
    stopped: bool = False
    _questions: int = 0

    def __post_init__(self) -> None:
        self._padding = "".join(self.chance.choices("abcdefgh\0é🙂 ", k=CHARACTERS))

    async def talk(self, http: aiohttp.ClientSession) -> None:
        """One of them, until they are stopped."""
        history: list[Json] = []
        while not self.stopped:
            if not self.serving:
                await asyncio.sleep(POLL_SECONDS)
                continue
            if len(history) >= 2 * MAX_TURNS:
                history = []
            with suppress(aiohttp.ClientError, ConnectionError):  # it was killed
                seen = await self.ask(http, history)
                if seen is not None and seen.ended:
                    history = [*seen.asked, {"role": "assistant", "content": seen.text}]

    def _question(self) -> Json:
        self._questions += 1
        # Few are large, some are compressed, some are not.
        size = int(self.characters * self.chance.random() ** 4)
        start = self.chance.randrange(max(1, CHARACTERS - size))
        padding = self._padding[start : start + size]
        return {"role": "user", "content": f"Question {self._questions}: {padding}?"}

    async def ask(self, http: aiohttp.ClientSession, history: Sequence[Json] = ()) -> Seen | None:
        """One question more. None where it was refused."""
        asked = [*history, self._question()]
        gateway = self.chance.choice(self.serving)
        stream = self.chance.random() < STREAMED
        body = orjson.dumps({"model": "qwythos", "messages": asked, "stream": stream})
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        data = io.BytesIO(body)
        async with http.post(gateway.url + CHAT, data=data, headers=headers) as response:
            request_id = response.headers["x-request-id"]
            self.sights += 1
            if response.status != 200:
                self.refusals[orjson.loads(await response.read())["error"]["code"]] += 1
                await asyncio.sleep(REFUSED_SECONDS)
                return None
            seen = self.seen[request_id] = Seen(asked, stream, gateway.strict)
            self.served.add(gateway.url)
            async for piece in response.content.iter_any():
                seen.raw += piece
                self.sights += 1
        return seen
