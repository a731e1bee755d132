"""The messages of a chat on the wire, each rebuilt into what the template can take."""

from collections.abc import Sequence
from typing import Annotated, Literal

import orjson
from pydantic import BeforeValidator, Discriminator, Field, Tag

from app.api.wire_values import (
    MAX_DEPTH,
    FunctionType,
    Label,
    Name,
    Strict,
    shape,
    unserved,
    within_depth,
)
from app.protocol.neutralise import neutralise
from app.protocol.request import Json

_NOT_TEXT = (
    "image_url", "input_audio", "file", "image", "input_image", "input_file", "audio_url", "video",
    "video_url",
)  # fmt: skip
_TEXT_ONLY = BeforeValidator(unserved("this model reads text only", *_NOT_TEXT))


class TextPart(Strict):
    type: Annotated[Literal["text"], _TEXT_ONLY]
    text: str
    prompt_cache_breakpoint: Json | None = None  # no effect


class RefusalPart(Strict):
    """What an assistant said, as much as its text is."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


def _part_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return "<refusal>" if kind == "refusal" else "<text-part>"


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[TextPart], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(shape),
]


AssistantPart = Annotated[
    Annotated[TextPart, Tag("<text-part>")] | Annotated[RefusalPart, Tag("<refusal>")],
    Discriminator(_part_kind),
]
AssistantContent = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[AssistantPart], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(shape),
]


def joined(content: str | Sequence[TextPart | RefusalPart] | None) -> str:
    # Joined, so that a control string cannot hide in the seam between two parts.
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


class SystemMessage(Strict):
    """`developer` is OpenAI's newer name for it; the template knows only `system`."""

    role: Literal["system", "developer"]
    content: Content
    name: Label | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Content
    name: Label | None = None

    def rebuilt(self) -> Json:
        return {"role": "user", "content": joined(self.content)}


class CalledFunction(Strict):
    name: Name
    arguments: str

    def rebuilt(self) -> Json:
        """As an object again: what is written in escapes is text like any other from then on."""
        try:
            arguments = orjson.loads(self.arguments or "{}")
        except orjson.JSONDecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            # vLLM would show the model an empty call instead: another history than the client's.
            raise ValueError("must be a JSON object, as text")
        if not within_depth(arguments, MAX_DEPTH):
            raise ValueError(f"must not be nested deeper than {MAX_DEPTH} levels")
        (harmless,) = neutralise([arguments])
        # As it was sent where nothing had to change: the same text every turn hits the cache.
        text = self.arguments if harmless == arguments else orjson.dumps(harmless).decode()
        return {"name": self.name, "arguments": text or "{}"}


class ToolCall(Strict):
    id: Label
    index: int | None = None  # left over where a client kept a stream's deltas
    type: FunctionType = "function"
    function: CalledFunction


class SealedDetail(Strict):
    """A thought that we sealed, sent back."""

    type: Literal["reasoning.encrypted"]
    data: str
    id: Label | None = None
    format: Label | None = None
    index: int | None = None


class OtherDetail(Strict):
    """OpenRouter's other kinds: accepted and dropped."""

    type: Annotated[str, Field(pattern=r"^reasoning\.[a-z_.]{1,64}$")]
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    id: Label | None = None
    format: Label | None = None
    index: int | None = None


def _detail_kind(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    return "<sealed>" if kind == "reasoning.encrypted" else "<other>"


ReasoningDetail = Annotated[
    Annotated[SealedDetail, Tag("<sealed>")] | Annotated[OtherDetail, Tag("<other>")],
    Discriminator(_detail_kind),
]


class AssistantMessage(Strict):
    """Thoughts that a client sends back do not become part of the message: what of them may reach
    the model is for the key's policy to say."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_details: Annotated[list[ReasoningDetail], Field(fail_fast=True)] | None = None
    annotations: list[Json] | None = None  # no effect

    # known, and refused by name: only null passes
    audio: None = None
    function_call: None = None

    @property
    def thought(self) -> str | None:
        return self.reasoning_content or self.reasoning or None

    @property
    def seals(self) -> tuple[str, ...]:
        details = self.reasoning_details or ()
        return tuple(detail.data for detail in details if isinstance(detail, SealedDetail))

    def rebuilt(self) -> Json:
        message: Json = {
            "role": "assistant",
            "content": joined(self.content) or self.refusal or "",
        }
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": call.function.rebuilt()}
                for call in self.tool_calls
            ]
        return message


class ToolMessage(Strict):
    role: Literal["tool"]
    content: Content
    tool_call_id: Label
    name: Label | None = None

    def rebuilt(self) -> Json:
        return {
            "role": "tool",
            "content": joined(self.content),
            "tool_call_id": self.tool_call_id,
        }


class FunctionMessage(Strict):
    """The older form of a tool's result, which names no call: refused by name."""

    role: Annotated[
        Literal["function"],
        BeforeValidator(unserved("send the result as a 'tool' message", "function")),
    ]


def _role(value: object) -> str | None:
    if not isinstance(value, dict):
        return "<user>"  # whose own error says that it must be an object
    role = value.get("role")
    return {"developer": "<system>"}.get(role, f"<{role}>") if isinstance(role, str) else None


Message = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")]
    | Annotated[FunctionMessage, Tag("<function>")],
    Discriminator(
        _role,
        custom_error_type="invalid_role",
        custom_error_message="role must be 'system', 'developer', 'user', 'assistant' or 'tool'",
    ),
]
