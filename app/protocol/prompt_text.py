"""The text of a prompt, as a worker's template renders it: tools first, then the messages.

One walk over it serves the estimate of its tokens, the memory of its prefix and the key of its
conversation.
"""

from dataclasses import dataclass

import orjson

from app.protocol.request import Json

# Stands between a message's role and its fields, and at its end.
SEPARATOR = "\x1f"
ENCODING_ERRORS = "surrogatepass"  # what came as text is counted, whatever it holds
# A text of so many characters is encoded by itself: joined, it would be copied once more.
MAX_JOINED_CHARACTERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class PromptText:
    """UTF-8. `sections` are the tools (as JSON, which the template shows too; empty where there are
    none) and then the messages, each in one piece or several: where a piece ends means nothing.
    """

    sections: tuple[tuple[bytes, ...], ...]
    section_bytes: tuple[int, ...]
    text_bytes: int
    first_user: int = 0  # the section of the first user's message; 0: there is none

    @property
    def has_tools(self) -> bool:
        return self.section_bytes[0] > 0

    @property
    def messages(self) -> int:
        return len(self.sections) - 1


def prompt_text(fields: Json) -> PromptText:
    """Of a worker's request. A conversation that goes on has the sections that it had, and more."""
    tools = fields.get("tools")
    sections: list[tuple[bytes, ...]] = [(orjson.dumps(tools) if tools else b"",)]
    messages = fields["messages"]
    sections += [_section(message) for message in messages]
    sizes = tuple(sum(map(len, section)) for section in sections)
    users = (at for at, message in enumerate(messages, 1) if message["role"] == "user")
    return PromptText(tuple(sections), sizes, sum(sizes), next(users, 0))


def _section(message: Json) -> tuple[bytes, ...]:
    content = message.get("content")
    if len(message) == 2 and isinstance(content, str) and len(content) <= MAX_JOINED_CHARACTERS:
        return (_encoded(f"{message['role']}{SEPARATOR}{content}{SEPARATOR}"),)  # as most are
    texts = [message["role"], _text(content)]
    if (thought := message.get("reasoning_content")) is not None:  # `reasoning` is the same text
        texts.append(_text(thought))
    for call in message.get("tool_calls") or ():
        function = call["function"]
        texts += (function["name"], _text(function["arguments"]))
    if sum(map(len, texts)) <= MAX_JOINED_CHARACTERS:
        return (_encoded(SEPARATOR.join(texts) + SEPARATOR),)
    separator = SEPARATOR.encode()
    return tuple(piece for text in texts for piece in (_encoded(text), separator))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", ENCODING_ERRORS)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()
