"""An id for every request, in every answer. A client's own is recorded, never taken over."""

import secrets

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InternalError

HEADER = b"x-request-id"

log = structlog.get_logger()


def new_request_id() -> str:
    return "req_" + secrets.token_hex(16)


def request_id_of(scope: Scope) -> str:
    request_id: str = scope["state"]["request_id"]
    return request_id


class RequestIds:
    """Pure ASGI, outermost: what the framework answers carries the id too, and a defect that
    nothing inside has caught is an error in OpenAI's shape as well."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        header = (HEADER, request_id.encode())
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:  # logged, and raised again where nothing can be said any more
            if started:
                raise  # the server logs it and cuts the connection: nothing else can be said
            log.exception("request_crashed", request_id=request_id)
            await _send_defect(send_with_id)


async def _send_defect(send: Send) -> None:
    body = orjson.dumps(InternalError("The gateway failed; it has been logged.").body())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
