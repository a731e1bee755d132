"""Traffic of every kind that makes a series: what goes well, what is refused, what fails.

`mixed_gateway` is `gateway serve` in front of four workers: two that share the chats, one
for short prompts that speaks SGLang's dialect, and a sick one. `MixedTraffic.round()` asks once for
each kind, all at once.
"""

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from app.settings import Engine
from app.store.api_key import KeyDraft
from app.store.database import create_engine
from app.store.keys import KeyStore
from tests.support.gateway import CHAT, PEPPER, GatewayClient, Json, chat_body
from tests.support.mixed_worker import MixedWorker
from tests.support.raw_client import request_bytes
from tests.support.replica import Replica

ADMIN_TOKEN = "an-admin-token"
LONG_TOKENS = 4_000  # what these workers read in a quarter of a second counts as long
DOCUMENT_SENTENCES = 1_200  # 38 KB: of what is shorter than 32 nobody remembers who has read it
CHATS_AT_ONCE = 3  # on each of the two, so that some have to wait
TOOLS: list[Json] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
# Everything that takes a minute or more in production takes a second or less here.
SETTINGS: dict[str, Any] = {
    "admin_token": ADMIN_TOKEN,
    "sealing_key": base64.b64encode(bytes(range(32))).decode(),
    "commit_after_seconds": 0.2,
    "keep_alive_comment_seconds": 0.3,
    "empty_delta_seconds": 0.6,
    "probe_seconds": 0.5,
    "active_probe_seconds": 1.0,
    "inter_token_seconds": 2.0,
    "ejection_faults": 3,
    "ejection_seconds": 2.0,
    "ejection_max_seconds": 4.0,
    "retry_share": 0.5,
    "long_prefill_tokens": LONG_TOKENS,
    "leave_min_prefill_seconds": 0,
    "audit_checkpoint_seconds": 1.0,
    "failed_authentications_per_minute": 1_000,
}
POOL = "main"  # a tag of the two that share the chats, and of all keys that name no other
KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch": {"priority": "batch"},
    "sealed": {"reasoning": "sealed", "tenant": "acme"},
    "foreign": {"reasoning": "sealed", "tenant": "globex"},
    "strict": {"filter_profile": "strict"},
    "tools": {"tools": [{"name": "get_*"}]},
    "limited": {"requests_per_minute": 1},
    "small": {"tokens_per_minute": 100},
    "sick": {"worker_tags": ["sick"]},
    "short": {"worker_tags": ["short"]},
    "stays": {"finish_after_leaving_seconds": 30},
}


@asynccontextmanager
async def mixed_gateway(
    database_url: str, redis_url: str, *more_workers: Json
) -> AsyncIterator["MixedTraffic"]:
    """`more_workers`: as the gateway's list of workers has them, beside the four."""
    async with AsyncExitStack() as stack:
        times_asked: dict[str, int] = {}
        chats = [MixedWorker(times_asked), MixedWorker(times_asked)]
        short, sick = MixedWorker(engine=Engine.SGLANG), MixedWorker()
        for worker in (*chats, short, sick):
            await stack.enter_async_context(worker)
        room = {"max_concurrency": CHATS_AT_ONCE}
        workers = [
            *(worker.settings() | room | {"tags": [POOL]} for worker in chats),
            short.settings() | {"tags": ["short"]},
            sick.settings() | {"tags": ["sick"]},
            *more_workers,
        ]
        own = {"database_url": database_url, "redis_url": redis_url, "workers": json.dumps(workers)}
        client = await stack.enter_async_context(_served(SETTINGS | own))
        keys = {
            name: await client.issue_key(**({"worker_tags": [POOL]} | policy))
            for name, policy in KEYS.items()
        }
        yield MixedTraffic(client, keys, chats[0].url.removeprefix("http://"))


@asynccontextmanager
async def _served(settings: dict[str, Any]) -> AsyncIterator[GatewayClient]:
    """By `gateway serve`, a process of its own."""
    home = Path(tempfile.mkdtemp(prefix="qwythos-mixed-"))
    replica = Replica(home, settings)
    engine = create_engine(settings["database_url"])
    try:
        keys = KeyStore(engine, PEPPER.encode(), cache_seconds=5, cache_entries=100)
        issued = await keys.create(KeyDraft(name="mixed", tenant="acme"))
        await replica.start()
        async with aiohttp.ClientSession() as http:
            yield GatewayClient(replica.port, issued.secret, http, keys)
    finally:
        await replica.kill()
        await engine.dispose()
        shutil.rmtree(home, ignore_errors=True)


Kind = Callable[[], Awaitable[None]]


class MixedTraffic:
    def __init__(self, gateway: GatewayClient, keys: dict[str, str], drained: str) -> None:
        self.gateway = gateway
        self._keys = keys
        self._drained = drained  # the worker that `operators` drain
        self._numbers = count(1)
        self._conversation: list[Json] = []
        self.kinds: Sequence[Kind] = (
            self.chats,
            self.long_conversation,
            self.silences,
            self.failures,
            self.sick_worker,
            self.hidden_text,
            self.filtered,
            self.tools,
            self.sealed_thoughts,
            self.limits,
            self.strangers,
            self.leaving,
            self.coming_again,
            self.operators,
        )

    async def round(self) -> None:
        await asyncio.gather(*(self.ask_for(kind) for kind in self.kinds))

    async def ask_for(self, kind: Kind) -> None:
        """One of `kinds`."""
        with suppress(TimeoutError):  # a machine that is short of time; what is missing comes later
            await kind()

    async def ask(self, text: str, *, key: str = "plain", **fields: Any) -> None:
        """`text` begins with the kind of answer; a number makes it a conversation of its own."""
        messages = [{"role": "user", "content": f"{text} {next(self._numbers)}"}]
        await self.gateway.chat(key=self._keys[key], **({"messages": messages} | fields))

    async def asks(self, *texts: str, **fields: Any) -> None:
        await asyncio.gather(*(self.ask(text, **fields) for text in texts))

    # -- what goes well

    async def chats(self) -> None:
        """More at once than the workers take."""
        plain = [self.ask("chat", stream=number % 2 == 0) for number in range(8)]
        await asyncio.gather(*plain, self.ask("chat", key="batch"), self.ask("chat", key="short"))

    async def long_conversation(self) -> None:
        """Each turn finds most of its prompt in its worker's cache."""
        if len(self._conversation) > 8 or not self._conversation:
            text = (
                f"Document {next(self._numbers)}. "
                + "All of it has to be read first. " * DOCUMENT_SENTENCES
            )
            self._conversation = [{"role": "user", "content": text}]
        key = self._keys["plain"]
        response = await self.gateway.chat(key=key, messages=self._conversation)
        if response.status == 200:
            said = {"role": "assistant", "content": response.message["content"]}
            self._conversation = [*self._conversation, said]
            self._conversation.append({"role": "user", "content": "chat Go on."})

    async def silences(self) -> None:
        await self.asks("slow", "slow", stream=True)

    # -- what fails

    async def failures(self) -> None:
        await self.asks("break", stream=True)
        await self.asks("fail-once", "empty")
        await self.gateway.request("GET", "/v1/models/nobody")
        await self.gateway.request("GET", "/v1/models")

    async def sick_worker(self) -> None:
        for _ in range(3):
            await self.ask("sick", key="sick", messages=[{"role": "user", "content": "sick"}])

    # -- what is kept from clients

    async def hidden_text(self) -> None:
        await self.asks("leak", "loop", stream=True)
        await self.ask("chat", temperature=0.1, max_tokens=40)

    async def filtered(self) -> None:
        await self.asks("mail", "mail", stream=True)
        pain = "chat I have chest pain and shortness of breath; write to bob@example.org."
        await self.asks("secret", pain, key="strict")

    async def tools(self) -> None:
        await self.asks("call", "forbidden", "forbidden", tools=TOOLS)
        other = [{"type": "function", "function": {"name": "send_mail"}}]
        await self.ask("chat", key="tools", tools=other)

    async def sealed_thoughts(self) -> None:
        question = {"role": "user", "content": f"call {next(self._numbers)}"}
        asked = {"messages": [question], "tools": TOOLS}
        response = await self.gateway.chat(key=self._keys["sealed"], **asked)
        if response.status != 200:
            return
        calls = response.message["tool_calls"]
        result = {"role": "tool", "tool_call_id": calls[0]["id"], "content": "Rain."}
        asked["messages"] = [question, response.message, result]
        for key in ("sealed", "foreign"):
            await self.gateway.chat(key=self._keys[key], **asked)

    # -- who may not

    async def limits(self) -> None:
        await self.asks("chat", "chat", key="limited")
        await self.ask("chat", key="small", max_tokens=500)

    async def strangers(self) -> None:
        for key in ("sk-qw-nobody", "nothing"):
            await self.gateway.request("POST", CHAT, body=chat_body(), key=key)
        async with self.gateway.raw() as client:
            await client.send(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
            await client.head()

    # -- clients and operators that come and go

    async def leaving(self) -> None:
        await asyncio.gather(*(self._leave(key) for key in ("stays", "short")))

    async def _leave(self, key: str) -> None:
        text = f"slow {next(self._numbers)}"
        body = chat_body(messages=[{"role": "user", "content": text}], stream=True)
        async with self.gateway.raw() as client:
            await client.send(request_bytes(CHAT, self._keys[key], body))
            await client.head()
            client.reset()

    async def coming_again(self) -> None:
        body = chat_body(messages=[{"role": "user", "content": f"slow {next(self._numbers)}"}])
        same = {"idempotency-key": f"request {next(self._numbers)}"}
        key, asking = self._keys["plain"], self.gateway.request
        await asyncio.gather(
            *(asking("POST", CHAT, body=body, key=key, headers=same) for _ in range(2))
        )

    async def operators(self) -> None:
        for change in ("drain", "resume"):
            path = f"/admin/v1/workers/{self._drained}/{change}"
            await self.gateway.request("POST", path, key=ADMIN_TOKEN)
