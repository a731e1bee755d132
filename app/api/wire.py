"""The chat completion request on the wire: every field that OpenAI or the engines know.

A field is honoured, accepted without effect, or refused by name; one that is not here at all is
refused too.
"""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from app.api.wire_messages import Message
from app.api.wire_values import FunctionType, Label, Name, Strict, shape
from app.errors import InvalidRequest
from app.protocol.request import Json

# -- tools and formats


class Function(Strict):
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


class Tool(Strict):
    type: FunctionType
    function: Function


class NamedFunction(Strict):
    name: Name


class NamedTool(Strict):
    type: FunctionType
    function: NamedFunction


class AllowedTools(Strict):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, fail_fast=True)]


class AllowedToolsChoice(Strict):
    """Some of the tools; the model is told of no others."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _choice_shape(value: object) -> str:
    if isinstance(value, str):
        return "<mode>"
    allowed = isinstance(value, dict) and value.get("type") == "allowed_tools"
    return "<allowed>" if allowed else "<named>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[NamedTool, Tag("<named>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed>")],
    Discriminator(_choice_shape),
]


class JsonSchema(Strict):
    name: Name
    description: str | None = None
    schema_: Json | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
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
    Discriminator(shape),
]


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # never added here, so both values hold


# -- the request


class GenerationRequest(Strict):
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


class GatewayOptions(Strict):
    """What a client asks of the gateway itself, and no worker sees."""

    # Tell in the body, too, which domains the prompt is of, where the key's profile annotates them.
    annotate: bool | None = None


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    # How much may be thought; the gateway's settings say how many tokens each is.
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )

    gateway: GatewayOptions | None = None

    # Requests that share it are asked of the same worker, where they can be.
    prompt_cache_key: Label | None = None

    # accepted, without effect
    safety_identifier: Label | None = None
    prompt_cache_retention: Label | None = None
    prompt_cache_options: Json | None = None
    metadata: dict[Label, Label] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    # known, and refused by name: only null, or what asks for nothing, passes
    logprobs: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
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
