"""The admin API of running gateways, for commands about what only they know."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import click
import orjson

from app.cli.errors import BadUsage, CommandError
from app.settings import Settings, SettingsError, load_settings
from app.smoke.target import new_session

ANSWER_SECONDS = 30.0  # it waits for nothing; a busy event loop may

T = TypeVar("T")

urls_option = click.option(
    "--url",
    "urls",
    multiple=True,
    help="Of the gateway; again for each replica.  [default: the port of this machine]",
)


@dataclass(frozen=True, slots=True)
class AdminAPI:
    """Of one replica. Whatever it refuses, and whatever goes wrong, is a CommandError."""

    url: str
    _token: str
    _session: aiohttp.ClientSession

    async def ask(
        self, method: str, *path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        where = "/".join(quote(part, safe="") for part in path)
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._session.request(
                    method,
                    f"{self.url}/admin/v1/{where}",
                    json=body,
                    headers={"authorization": f"Bearer {self._token}"},
                    allow_redirects=False,
                ) as response,
            ):
                answer = _object(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise CommandError(f"{self.url} cannot be asked: {reason}") from None
        if response.status >= 400:
            raise CommandError(f"{self.url}: {_reason(answer, response.status)}")
        return answer


def on_gateways(urls: Sequence[str], step: Callable[[AdminAPI], Awaitable[T]]) -> list[T]:
    """Runs `step` with each replica in turn, up to the first that refuses."""
    for url in urls:
        if "@" in url:  # and is not repeated
            raise BadUsage("--url: may hold no user or password; GATEWAY_ADMIN_TOKEN says who asks")
    try:
        settings = load_settings()
    except SettingsError as error:
        raise BadUsage(str(error)) from None
    return asyncio.run(_run(urls, step, settings))


async def _run(
    urls: Sequence[str], step: Callable[[AdminAPI], Awaitable[T]], settings: Settings
) -> list[T]:
    if settings.admin_token is None:
        raise BadUsage("GATEWAY_ADMIN_TOKEN: is not set; it is that of the running gateway")
    token = settings.admin_token.get_secret_value()
    async with new_session() as session:
        return [
            await step(AdminAPI(url.rstrip("/"), token, session))
            for url in urls or (f"http://127.0.0.1:{settings.port}",)
        ]


def _object(body: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    answer = orjson.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not one of a gateway")
    return answer


def _reason(answer: dict[str, Any], status: int) -> str:
    error = answer.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    if status == 404 and (not isinstance(error, dict) or error.get("code") == "not_found"):
        return "it has no admin API of this kind; is GATEWAY_ADMIN_TOKEN set there?"
    return str(message or f"status {status}")
