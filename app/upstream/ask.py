"""What a request needs of a worker."""

from dataclasses import dataclass

from app.protocol.prefix import Prefix
from app.protocol.request import Json
from app.store.policy import Priority
from app.upstream.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Ask:
    """`conversation` is the same in every replica and for every turn of a conversation, under its
    tenant; `prefix` is of this process alone. A worker must have all of `tags`, and have no more to
    read than `max_cold_tokens`. `read_by` has just read the prompt, all of it."""

    tenant: str
    prompt_tokens: int  # an estimate or a count
    output_tokens: int  # the longest answer, times its choices
    needed_tokens: int  # that a context has to hold; 0: nobody can say
    fields: Json  # of the worker's request, for what its dialect can do
    prefix: Prefix
    conversation: bytes  # 16 bytes
    priority: Priority = Priority.INTERACTIVE
    wait_seconds: float = 0.0  # in the queue, at most
    tags: frozenset[str] = frozenset()
    max_cold_tokens: int | None = None
    chat: bool = True  # its prompt is in `messages`, else in `prompt`
    read_by: Endpoint | None = None
