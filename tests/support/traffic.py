"""Clients that ask one thing after another, streamed and whole, and note what went wrong."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from httpx2 import HTTPError
from openai import APIError, AsyncOpenAI, OpenAIError

from tests.support.conditions import eventually

ANSWER_SECONDS = 60.0  # for an answer to end; only spent on failure
CONVERSATION_TURNS = 2  # few: an edge deals out conversations, and every replica is to get some


@dataclass
class Traffic:
    """`whole` is the text that each answer has to be, word for word."""

    url: str
    key: str
    whole: str
    completed: list[str] = field(default_factory=list)  # request ids
    failed: dict[str, str] = field(default_factory=dict)  # what went wrong, by request id
    _stopped: bool = False

    async def goes_on(self, answers: int) -> None:
        """Returns once so many more have come to their end."""
        until = len(self.completed) + answers
        await eventually(
            lambda: len(self.completed) >= until, ANSWER_SECONDS, f"{until} answers: {self.failed}"
        )

    def stop(self) -> None:
        """What runs comes to its end."""
        self._stopped = True

    async def client(self, number: int) -> None:
        """Asks on and on, in one conversation after another, with connections of its own and no
        retries."""
        async with AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.key,
            max_retries=0,
            timeout=ANSWER_SECONDS,
        ) as sdk:
            for turn in count():
                if self._stopped:
                    return
                conversation = f"{number}.{turn // CONVERSATION_TURNS}"
                streamed = (number + turn) % 3 != 0
                asked = _Asked(sdk, f"{number}.{turn}", {"x-gateway-affinity": conversation})
                await self._note(asked, streamed=streamed)

    async def _note(self, asked: "_Asked", *, streamed: bool) -> None:
        try:
            said = await (asked.streamed() if streamed else asked.whole())
        except (OpenAIError, HTTPError) as error:
            code = error.code if isinstance(error, APIError) else None
            self.failed[asked.request_id] = f"{code}: {error!r}"
            return
        if said == (self.whole, "stop"):
            self.completed.append(asked.request_id)
        else:
            self.failed[asked.request_id] = f"it said {said}"


class _Asked:
    """One request; its id is known once an answer begins."""

    def __init__(self, sdk: AsyncOpenAI, text: str, headers: Mapping[str, str]) -> None:
        self.request_id = text
        self._text = text
        self._headers = headers
        self._completions = sdk.chat.completions

    async def whole(self) -> tuple[str, str | None]:
        """The text, and why it ended."""
        answer = await self._completions.create(
            model="qwythos",
            messages=[{"role": "user", "content": self._text}],
            extra_headers=self._headers,
        )
        self.request_id = str(answer._request_id)
        (choice,) = answer.choices
        return choice.message.content or "", choice.finish_reason

    async def streamed(self) -> tuple[str, str | None]:
        response = await self._completions.with_raw_response.create(
            model="qwythos",
            messages=[{"role": "user", "content": self._text}],
            stream=True,
            extra_headers=self._headers,
        )
        self.request_id = response.headers["x-request-id"]
        pieces, finish = [], None
        async for chunk in response.parse():
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                finish = choice.finish_reason or finish
        return "".join(pieces), finish


@asynccontextmanager
async def traffic(url: str, key: str, whole: str, *, clients: int) -> AsyncIterator[Traffic]:
    """While the block runs; when it is left, everything has come to its end."""
    made = Traffic(url, key, whole)
    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(made.client(number))
        try:
            yield made
        finally:
            made.stop()
