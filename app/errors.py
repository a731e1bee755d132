"""What can go wrong with a request, and whose fault it was.

    GatewayError
     ├─ InvalidRequest        client    400  what was sent cannot be served; `param` names the field
     │   ├─ ContextTooLong    client    400  prompt and answer do not fit the model's context
     │   ├─ NotHttp           client    400  what no two servers would read in the same way
     │   └─ UrlTooLong        client    414
     ├─ Unauthenticated       client    401  no key, or not one of ours; `failure` says which
     ├─ Forbidden             policy    403  the key may not do this
     ├─ NotFound              client    404  no such model, route or record
     ├─ MethodNotAllowed      client    405
     ├─ ColdPrefillTooLong    client    409  a worker would have to read more than is allowed
     ├─ Conflict              client    409  it does not go with what there is
     ├─ RequestTimeout        client    408  headers or body came too slowly
     ├─ RequestTooLarge       client    413
     ├─ UnsupportedMedia      client    415  content type or encoding
     ├─ HeadersTooLarge       client    431
     ├─ RateLimited           capacity  429  come back later
     ├─ Unavailable           capacity  503  no worker, no database, or draining
     ├─ UpstreamFailed        upstream  502  the worker erred, died, or sent what is not an answer
     │   └─ UpstreamTimeout   upstream  504  the worker fell silent
     ├─ GatewayTimeout        client    504  the answer takes longer than its client waits for it
     ├─ InternalError         gateway   500  a defect of ours
     └─ ClientDisconnected    client    499  nobody is left to answer; never sent

Every refusal leaves the gateway in OpenAI's shape, with a string in `code` that their SDKs' users
test for: `{"error": {"message", "type", "param", "code"}}`.
"""

import math
from enum import StrEnum
from typing import ClassVar, TypedDict


class Fault(StrEnum):
    """Who has to act."""

    CLIENT = "client"
    POLICY = "policy"
    CAPACITY = "capacity"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class ErrorDetail(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    error: ErrorDetail


class GatewayError(Exception):
    """A refusal, before the first byte as a status and in a running stream as an event.

    `message` is read by strangers: it holds no prompt text, secret, path or worker address.
    `retry_after_seconds` becomes `retry-after` (SDKs obey at most 60 s); `should_retry` becomes
    `x-should-retry`, where the status alone would make an SDK do the wrong thing.
    """

    fault: ClassVar[Fault] = Fault.GATEWAY
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after_seconds = retry_after_seconds
        self.should_retry = should_retry

    def body(self) -> ErrorBody:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that tell an SDK whether and when to try again."""
        headers: list[tuple[bytes, bytes]] = []
        if self.retry_after_seconds is not None:
            whole = max(1, math.ceil(self.retry_after_seconds))  # never too soon
            headers.append((b"retry-after", b"%d" % whole))
            headers.append((b"retry-after-ms", b"%d" % round(self.retry_after_seconds * 1000)))
        if self.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return headers


class InvalidRequest(GatewayError):
    fault = Fault.CLIENT
    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class ContextTooLong(InvalidRequest):
    """Clients recognise this by its code, by "maximum context length", or by the literal code in
    the message (LangChain reads only the text), so the message carries all three."""

    default_code = "context_length_exceeded"

    def __init__(self, context_tokens: int, prompt_tokens: int, max_tokens: int) -> None:
        asked = f"{prompt_tokens} tokens"
        if max_tokens:
            asked = (
                f"{prompt_tokens + max_tokens} tokens "
                f"({prompt_tokens} in the messages, {max_tokens} in the completion)"
            )
        super().__init__(
            f"This model's maximum context length is {context_tokens} tokens. However, you "
            f"requested {asked} (context_length_exceeded). Please reduce the length of the "
            "messages or of the completion.",
            param="messages",
        )


class NotHttp(InvalidRequest):
    default_code = "invalid_http_request"

    def __init__(self, message: str = "This is not a valid HTTP/1.1 request.") -> None:
        super().__init__(message)


class UrlTooLong(InvalidRequest):
    status = 414
    default_code = "request_url_too_long"


class AuthenticationFailure(StrEnum):
    """Why a caller was not believed: for those who count, never for the caller."""

    MISSING = "missing"  # no credential at all
    MALFORMED = "malformed"  # nothing that a key can look like
    UNKNOWN = "unknown"  # opens nothing now: never issued, expired, disabled or revoked
    THROTTLED = "throttled"  # not looked at, after too many of the others


class Unauthenticated(GatewayError):
    fault = Fault.CLIENT
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"

    def __init__(
        self, message: str, failure: AuthenticationFailure = AuthenticationFailure.UNKNOWN
    ) -> None:
        super().__init__(message)
        self.failure = failure

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"www-authenticate", b"Bearer")]


class Forbidden(GatewayError):
    fault = Fault.POLICY
    status = 403
    type = "permission_error"
    default_code = "forbidden"


class NotFound(GatewayError):
    fault = Fault.CLIENT
    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(GatewayError):
    fault = Fault.CLIENT
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class ColdPrefillTooLong(GatewayError):
    """The prompt, less what a worker has in its cache, is longer than the key or the client lets a
    prefill be. SDKs try a 409 again; this one would come back for ever."""

    fault = Fault.CLIENT
    status = 409
    type = "invalid_request_error"
    default_code = "cold_prefill_too_long"

    def __init__(self, cold_tokens: int, limit_tokens: int, *, param: str) -> None:
        super().__init__(
            f"This prompt would have a model server read about {cold_tokens} tokens that it has "
            f"not in its cache; at most {limit_tokens} are allowed. Send a shorter prompt, go on "
            "with a conversation that was answered lately, or raise the limit.",
            param=param,
            should_retry=False,
        )
        self.cold_tokens = cold_tokens
        self.limit_tokens = limit_tokens

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"x-gateway-cold-prefill-tokens", b"%d" % self.cold_tokens)]


class Conflict(GatewayError):
    """SDKs try a 409 again, which changes nothing here."""

    fault = Fault.CLIENT
    status = 409
    type = "invalid_request_error"
    default_code = "conflict"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message, code=code, should_retry=False)


class RequestTimeout(GatewayError):
    fault = Fault.CLIENT
    status = 408
    type = "timeout"
    default_code = "request_timeout"


class RequestTooLarge(GatewayError):
    fault = Fault.CLIENT
    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"


class UnsupportedMedia(GatewayError):
    fault = Fault.CLIENT
    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


class HeadersTooLarge(GatewayError):
    fault = Fault.CLIENT
    status = 431
    type = "invalid_request_error"
    default_code = "headers_too_large"


class RateLimited(GatewayError):
    fault = Fault.CAPACITY
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"


class Unavailable(GatewayError):
    fault = Fault.CAPACITY
    status = 503
    type = "service_unavailable_error"
    default_code = "server_is_overloaded"


class UpstreamFailed(GatewayError):
    fault = Fault.UPSTREAM
    status = 502
    type = "server_error"
    default_code = "upstream_error"


class UpstreamTimeout(UpstreamFailed):
    status = 504
    default_code = "upstream_timeout"


class GatewayTimeout(GatewayError):
    """SDKs try a 504 again: `should_retry` says whether that gets the answer or only costs another
    prefill."""

    fault = Fault.CLIENT
    status = 504
    type = "timeout"
    default_code = "gateway_timeout"


class InternalError(GatewayError):
    pass


class ClientDisconnected(GatewayError):
    """The client is gone. Counted and audited under nginx's 499, but nobody receives it."""

    fault = Fault.CLIENT
    status = 499
    type = "client_disconnected"
    default_code = "client_disconnected"
