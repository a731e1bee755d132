"""The values that pass between the steps of a request. Frozen: a step makes a new one."""

from dataclasses import dataclass

from app.protocol.request import ChatRequest, Json
from app.store.policy import Policy


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, once believed."""

    key_id: str
    tenant: str
    name: str
    policy: Policy


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """What a worker will be asked, but for its own name of the model.

    `max_tokens` is the clamped cap; `max_tokens_explicit` says that the client named it, so that
    it may not be cut silently. `prompt_tokens` is an estimate until `exact`.
    """

    request: ChatRequest
    fields: Json
    max_tokens: int
    max_tokens_explicit: bool
    prompt_tokens: int
    exact: bool = False
