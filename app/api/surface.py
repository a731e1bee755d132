"""The routes that complete: what each reads and writes. The pipeline between is the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.api.parse import parse_chat, parse_completion
from app.protocol.encode import ChatEncoder, ChatFolder, Encoder, Folder
from app.protocol.encode_text import TextEncoder, TextFolder
from app.protocol.request import ChatRequest
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Surface:
    route: str
    id_prefix: str
    parse: Callable[[bytes, Settings], ChatRequest]
    encoder: Callable[..., Encoder]
    folder: Callable[[int, Sequence[str]], Folder]


CHAT = Surface("/v1/chat/completions", "chatcmpl-", parse_chat, ChatEncoder, ChatFolder)
TEXT = Surface("/v1/completions", "cmpl-", parse_completion, TextEncoder, TextFolder)
