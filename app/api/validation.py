"""pydantic's errors, in OpenAI's words."""

from collections.abc import Sequence

from pydantic import ValidationError

from app.errors import InvalidRequest

MAX_ECHO_CHARACTERS = 64  # of what a client sent, in what we answer


def explain(error: ValidationError) -> InvalidRequest:
    """The first error, naming the field at fault in `param`."""
    first = error.errors(include_url=False, include_input=False)[0]
    return explain_one(first["loc"], first["type"], first["msg"])


def explain_one(loc: Sequence[int | str], kind: str, message: str) -> InvalidRequest:
    param = param_of(loc)
    if kind == "missing":
        return InvalidRequest(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    if kind == "extra_forbidden":
        return InvalidRequest(
            f"Unrecognized request argument supplied: {param}.",
            param=param,
            code="unknown_parameter",
        )
    if kind == "none_required" or (kind == "literal_error" and param in _ONLY_OFF):
        return InvalidRequest(
            f"Unsupported parameter: '{param}' is not supported by this gateway.",
            param=param,
            code="unsupported_parameter",
        )
    if kind == "unsupported":  # a kind of it, named in the message
        return InvalidRequest(
            f"Invalid value for '{param}': {message}.", param=param, code="unsupported_parameter"
        )
    if kind == "invalid_role":
        param = f"{param}.role"
    reason = message.removeprefix("Value error, ").removeprefix("Input ")
    if kind == "model_type":
        reason = "should be an object"
    if kind == "too_short":
        reason = "should not be empty"
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return InvalidRequest(f"Invalid value for '{param}': {reason}.", param=param, code=code)


# Their only accepted value asks for nothing, so another is a wish that we do not fulfil.
_ONLY_OFF = frozenset(
    {"best_of", "echo", "logprobs", "modalities[0]", "modalities[1]", "service_tier", "store"}
)


def param_of(loc: Sequence[int | str]) -> str:
    """`messages[0].content[1].type`; the names of union branches, in `<>`, are left out."""
    param = ""
    for part in loc:
        if part == "[key]":  # it is the name itself that is wrong
            continue
        if isinstance(part, int):
            param += f"[{part}]"
        elif not part.startswith("<"):
            param += f".{part}" if param else part
    return param[:MAX_ECHO_CHARACTERS]
