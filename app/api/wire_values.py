"""What the wire's models share: strictness, bounds, and how what we do not serve is refused."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_LABEL_CHARACTERS = 512  # `user`, `metadata` values and the like: identifiers, not documents
MAX_DEPTH = 64  # of nested JSON in a schema or in arguments; hostile ones go deeper


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Label = Annotated[str, Field(max_length=MAX_LABEL_CHARACTERS)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


def unserved(reason: str, *kinds: str) -> Callable[[object], object]:
    """A check that refuses `kinds`, which others know and we do not serve, by name."""

    def refuse(value: object) -> object:
        if isinstance(value, str) and value in kinds:
            raise PydanticCustomError(
                "unsupported",
                "'{kind}' is not supported: {reason}",
                {"kind": value, "reason": reason},
            )
        return value

    return refuse


FunctionType = Annotated[
    Literal["function"], BeforeValidator(unserved("tools are functions here", "custom"))
]


def shape(value: object) -> str:
    """Tells a text from a list, for unions of the two; names in `<>` stay out of errors."""
    return "<parts>" if isinstance(value, list) else "<text>"


def within_depth(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, list | tuple):
        return True
    return depth > 0 and all(within_depth(inner, depth - 1) for inner in value)
