"""How a worker fails or refuses, and what there is to say where none takes a request, in our error
tree."""

from app.errors import ContextTooLong, GatewayError, InvalidRequest, Unavailable, UpstreamFailed

BUSY_RETRY_SECONDS = 2.0  # a decode step frees a place long before that


class ConnectFailed(UpstreamFailed):
    """The worker was `unreachable`, or went away before its first token. `detail` is for our
    log."""

    def __init__(self, detail: str, *, unreachable: bool = False) -> None:
        super().__init__("The model server could not be reached.")
        self.detail = detail
        self.unreachable = unreachable


class WorkerBusy(Unavailable):
    """The worker refused more work; another may take it."""


def refusal(status: int, detail: bytes, context_tokens: int) -> GatewayError:
    """A worker's error status, as ours. Its text may hold prompts or paths and goes no further."""
    if status in (400, 413, 422):
        if b"context length" in detail or b"exceed_context_size" in detail:
            return ContextTooLong(context_tokens, context_tokens + 1, 0)
        return InvalidRequest("The model server refused the request as invalid.")
    if status in (429, 503):
        return WorkerBusy(
            "The model servers are busy. Please try again.",
            retry_after_seconds=BUSY_RETRY_SECONDS,
        )
    return UpstreamFailed("The model server failed.")


def no_worker(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        "No model server is available right now. Please try again.",
        code="no_available_workers",
        retry_after_seconds=retry_after_seconds,
    )


def queue_full(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        "The model servers are busy, and too many requests wait for them. Please try again.",
        code="queue_full",
        retry_after_seconds=retry_after_seconds,
    )


def queue_timeout(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        "The model servers are busy: none had room for this request in time. Please try again.",
        code="queue_timeout",
        retry_after_seconds=retry_after_seconds,
    )


def unsupported_parameter(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"The model server behind this gateway does not support '{param}'.",
        param=param,
        code="unsupported_parameter",
    )
