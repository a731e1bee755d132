"""The chat completion request on the wire: every field that OpenAI or the engines know.

A field is honoured, accepted without effect, or refused by name; one that is not here at all is
refused too.
"""

from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from app.errors import InvalidRequest
from app.protocol.neutralise import neutralise
from app.protocol.request import Json

MAX_LABEL_CHARACTERS = 512  # `user`, `metadata` values and the like: identifiers, not documents


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Label = Annotated[str, Field(max_length=MAX_LABEL_CHARACTERS)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


# -- messages


class TextPart(_Strict):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: Json | None = None


def _shape(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<text>"


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[TextPart], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_shape),
]


def joined(content: "str | list[TextPart] | None") -> str:
    # Joined, so that a control string cannot hide in the seam between two parts.
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


class SystemMessage(_Strict):
    """`developer` is OpenAI's newer name for it; the template knows only `system`."""

    role: Literal["system", "developer"]
    content: Content
    name: Label | None = None


class UserMessage(_Strict):
    role: Literal["user"]
    content: Content
    name: Label | None = None

    def rebuilt(self) -> Json:
        return {"role": "user", "content": joined(self.content)}


class CalledFunction(_Strict):
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
        (harmless,) = neutralise([arguments])
        # As it was sent where nothing had to change: the same text every turn hits the cache.
        text = self.arguments if harmless == arguments else orjson.dumps(harmless).decode()
        return {"name": self.name, "arguments": text or "{}"}


class ToolCall(_Strict):
    id: Label
    index: int | None = None  # left over where a client kept a stream's deltas
    type: Literal["function"] = "function"
    function: CalledFunction


class AssistantMessage(_Strict):
    """Thoughts that a client sends back are accepted and dropped: the template strips them too."""

    role: Literal["assistant"]
    content: Content | None = None
    refusal: str | None = None
    name: Label | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    annotations: list[Json] | None = None
    audio: None = None
    function_call: None = None

    def rebuilt(self) -> Json:
        message: Json = {"role": "assistant", "content": joined(self.content)}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": call.function.rebuilt()}
                for call in self.tool_calls
            ]
        return message


class ToolMessage(_Strict):
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


def _role(value: object) -> str | None:
    if not isinstance(value, dict):
        return "<user>"  # whose own error says that it must be an object
    role = value.get("role")
    return {"developer": "<system>"}.get(role, f"<{role}>") if isinstance(role, str) else None


Message = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(
        _role,
        custom_error_type="invalid_role",
        custom_error_message="role must be 'system', 'developer', 'user', 'assistant' or 'tool'",
    ),
]


# -- tools and formats


class Function(_Strict):
    name: Name
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None  # no effect: strict grammars have looped in engines

    def rebuilt(self) -> Json:
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {
            "type": "function",
            "function": {name: value for name, value in function.items() if value is not None},
        }


class Tool(_Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(_Strict):
    name: Name


class NamedTool(_Strict):
    type: Literal["function"]
    function: NamedFunction


def _choice_shape(value: object) -> str:
    return "<mode>" if isinstance(value, str) else "<named>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[NamedTool, Tag("<named>")],
    Discriminator(_choice_shape),
]


class JsonSchema(_Strict):
    name: Name
    description: str | None = None
    schema_: Json | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def rebuilt(self) -> Json | None:
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "json_object"}
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise InvalidRequest(
                "Missing required parameter: 'response_format.json_schema.schema'.",
                param="response_format.json_schema.schema",
                code="missing_required_parameter",
            )
        schema = {"name": self.json_schema.name, "schema": self.json_schema.schema_}
        return {"type": "json_schema", "json_schema": schema}


Stop = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[str], Field(fail_fast=True), Tag("<parts>")],
    Discriminator(_shape),
]


class StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # never added here, so both values hold


# -- the request


class GenerationRequest(_Strict):
    """What the completion routes share."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None

    # engines' own
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None

    # accepted, without effect
    user: Label | None = None

    # known, and refused by name: only null passes
    logit_bias: None = None


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    # accepted, without effect
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Json | None = None
    metadata: dict[Label, Label] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    verbosity: Literal["low", "medium", "high"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    logprobs: Literal[False] | None = None

    # known, and refused by name: only null passes
    audio: None = None
    function_call: None = None
    functions: None = None
    moderation: None = None
    prediction: None = None
    top_logprobs: None = None
    web_search_options: None = None


class CompletionRequest(GenerationRequest):
    """POST /v1/completions: the prompt is asked as one user turn, thought and all."""

    prompt: Annotated[str, Field(min_length=1)]

    # known, and refused by name: only null, or what asks for nothing, passes
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None
