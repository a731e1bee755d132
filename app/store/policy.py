"""What a key may do, as it is stored beside the key, its plan and its tenant."""

import re
import warnings
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool
from pydantic_core import SchemaError, SchemaValidator, core_schema

from app.protocol.domains import Domain

Limit = Annotated[int, Field(ge=1, le=10**12)]
MAX_TOOL_RULES = 256
MAX_WORKER_TAGS = 16
MAX_GRACE_SECONDS = 3_600  # as long as an answer may take
MAX_PATTERN_CHARACTERS = 512
# Of one policy, in all of its tools: each may take some 50 ms to compile.
MAX_PATTERNS = 256
MAX_ARGUMENT_NAME_CHARACTERS = 256

_GLOB = re.compile(r"(?:[A-Za-z0-9_*?-]|\[!?[A-Za-z0-9_-]+\])+")


class Reasoning(StrEnum):
    """What a client gets of the thought."""

    HIDDEN = "hidden"
    VISIBLE = "visible"  # as `reasoning`
    SEALED = "sealed"  # encrypted, to be sent back


class Priority(StrEnum):
    """Whose requests wait longer where workers are short."""

    INTERACTIVE = "interactive"
    BATCH = "batch"  # gets one turn of eight while others wait


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL, which the database does not store")
    return text


@lru_cache(maxsize=1024)  # a policy is read again with its key, every few seconds
def _compilable(pattern: str) -> str:
    """In `re` and in an engine that needs linear time whatever the text: what both can do has no
    look-around, no back-references, and compiles to a bounded size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about what other engines read otherwise, as in `[[a]`
            re.compile(pattern)
        for form in (pattern, rf"\A(?:{pattern})\z"):
            SchemaValidator(core_schema.str_schema(pattern=form))
    except (re.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    except SchemaError as error:
        reason = str(error).splitlines()[-1].strip()
        reason = reason.removeprefix("SchemaError: ").removeprefix("error: ")
        raise ValueError(f"is not a regular expression for policies: {reason}") from None
    return pattern


def _glob(name: str) -> str:
    if not _GLOB.fullmatch(name):
        raise ValueError(
            "is not a glob of tool names (letters, digits, '_', '-', '*', '?', '[a-z]')"
        )
    return name


def _argument_names(arguments: dict[str, str]) -> dict[str, str]:
    for name in arguments:
        _storable(name)
        if len(name) > MAX_ARGUMENT_NAME_CHARACTERS:
            raise ValueError(f"has a name of more than {MAX_ARGUMENT_NAME_CHARACTERS} characters")
    return arguments


Text = Annotated[str, AfterValidator(_storable)]
Pattern = Annotated[
    str,
    Field(max_length=MAX_PATTERN_CHARACTERS),
    AfterValidator(_storable),
    AfterValidator(_compilable),
]
Tag = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ProfileName = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,48}$")]
DomainAction = Literal["allow", "annotate", "refuse"]
# As `AuditLevel` of the audit log says them, which the store knows nothing of.
AuditLevelName = Literal["metadata", "full", "full+reasoning"]
EngineParameter = Literal["top_k", "min_p", "repetition_penalty", "seed"]


class AllowedTool(BaseModel):
    """Tools whose names match the glob `name`. An argument named here must match its pattern, a
    regular expression, with the whole of its value: as text where it is a string, else as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_glob)]
    arguments: Annotated[
        dict[str, Pattern], Field(max_length=64), AfterValidator(_argument_names)
    ] = Field(default_factory=dict)


def _few_patterns(tools: tuple[AllowedTool, ...]) -> tuple[AllowedTool, ...]:
    if sum(len(tool.arguments) for tool in tools) > MAX_PATTERNS:
        raise ValueError(f"should have at most {MAX_PATTERNS} patterns in all")
    return tools


AllowedTools = Annotated[
    tuple[AllowedTool, ...], Field(max_length=MAX_TOOL_RULES), AfterValidator(_few_patterns)
]


class Limits(BaseModel):
    """How much may be asked for, by a key or by all keys of a tenant together; None: no limit.
    Tokens are those of prompts and answers. Budgets are spent in days and months of UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    concurrency: Limit | None = None
    tokens_per_day: Limit | None = None
    tokens_per_month: Limit | None = None


NO_LIMITS = Limits()


class Policy(Limits):
    """None means "as the gateway's settings say", for limits "none", for lists "all"; of a key that
    has a plan, "as the plan says"."""

    models: tuple[Text, ...] | None = None
    max_output_tokens: Limit | None = None

    # -- the thought
    reasoning: Reasoning | None = None  # None: hidden
    reasoning_content: StrictBool | None = None  # a visible thought under its second name, too
    unreadable_reasoning: Literal["ignore", "refuse"] | None = None  # a seal; None: ignore
    think_in_answer: Literal["hide", "show"] | None = None  # a second thought; None: hide
    max_thinking_tokens: Limit | None = None
    # Tokens for an answer whose thought used up all of its own; None: it stays empty.
    salvage_tokens: Limit | None = None

    # -- what may be asked
    max_messages: Limit | None = None
    max_prompt_characters: Limit | None = None  # of all messages, tools and formats
    # A prompt that a worker would have to read anew, but for what its prefix cache holds.
    max_cold_prefill_tokens: Limit | None = None
    cold_sampling: Literal["raise", "refuse", "pass"] | None = None  # None: raise
    engine_parameters: tuple[EngineParameter, ...] | None = None
    tools: AllowedTools | None = None

    # -- which workers, and when
    priority: Priority | None = None  # None: interactive
    # All of these a worker must have; None: any worker will do.
    worker_tags: Annotated[tuple[Tag, ...], Field(max_length=MAX_WORKER_TAGS)] | None = None

    # A request whose client has left goes on for so long, if its prompt has cost much already, for
    # the same one coming back. None: it is given up.
    finish_after_leaving_seconds: Annotated[int, Field(ge=0, le=MAX_GRACE_SECONDS)] | None = None

    # -- what is filtered
    filter_profile: ProfileName | None = None  # None: that of the settings
    domains: Mapping[Domain, DomainAction] | None = None  # over those of the profile

    # -- what is kept
    audit: AuditLevelName | None = None  # None: full
