"""A policy at the terminal, of a key or a plan: the options that make one, and its fields as
lines."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import click
from pydantic import TypeAdapter, ValidationError

from app.cli.errors import BadUsage
from app.cli.limit_options import (
    LIMIT_DECORATORS,
    LIMIT_NAMES,
    LimitOptions,
    given_limits,
    option_of,
    with_unset,
)
from app.protocol.domains import Domain
from app.store.policy import (
    AllowedTool,
    AllowedTools,
    AuditLevelName,
    DomainAction,
    EngineParameter,
    Limits,
    Policy,
    Priority,
    Reasoning,
)

MAX_TOOLS_FILE_BYTES = 1024 * 1024  # far more than MAX_TOOL_RULES and their patterns need

Command = TypeVar("Command", bound=Callable[..., Any])


class PolicyOptions(LimitOptions):
    max_output_tokens: int | None
    model: tuple[str, ...]
    reasoning: Literal["hidden", "visible", "sealed"] | None
    reasoning_content: bool | None
    unreadable_reasoning: Literal["ignore", "refuse"] | None
    think_in_answer: Literal["hide", "show"] | None
    max_thinking_tokens: int | None
    salvage_tokens: int | None
    max_messages: int | None
    max_prompt_characters: int | None
    max_cold_prefill_tokens: int | None
    cold_sampling: Literal["raise", "refuse", "pass"] | None
    engine_parameter: tuple[EngineParameter, ...]
    tool: tuple[str, ...]
    tools_file: Path | None
    priority: Literal["interactive", "batch"] | None
    worker_tag: tuple[str, ...]
    finish_after_leaving_seconds: int | None
    filter_profile: str | None
    domain: tuple[str, ...]
    audit: AuditLevelName | None


# Where an option's name is not that of the policy's field.
_NAMES = LIMIT_NAMES | {
    "models": "model",
    "engine_parameters": "engine_parameter",
    "tools": "tool",
    "domains": "domain",
    "worker_tags": "worker_tag",
}

_DECORATORS = (
    *LIMIT_DECORATORS,
    click.option("--max-output-tokens", type=int, help="Longest answer, with its thought."),
    click.option(
        "--model", multiple=True, help="A model it may use; give more than one if need be."
    ),
    click.option(
        "--reasoning",
        type=click.Choice([value.value for value in Reasoning]),
        help="What clients get of the thought; sealed is encrypted, to be sent back.  "
        "[default: hidden]",
    ),
    click.option(
        "--reasoning-content/--no-reasoning-content",
        default=None,
        help="Send a visible thought as `reasoning_content`, too.",
    ),
    click.option(
        "--unreadable-reasoning",
        type=click.Choice(["ignore", "refuse"]),
        help="A sealed thought that does not open.  [default: ignore]",
    ),
    click.option(
        "--think-in-answer",
        type=click.Choice(["hide", "show"]),
        help="Think tags in an answer that has begun.  [default: hide]",
    ),
    click.option("--max-thinking-tokens", type=int, help="Longest thought."),
    click.option(
        "--salvage-tokens",
        type=int,
        help="Tokens for an answer whose thought used up all of its own.  [default: none]",
    ),
    click.option("--max-messages", type=int, help="Messages in one prompt."),
    click.option("--max-prompt-characters", type=int, help="Longest prompt, with its tools."),
    click.option(
        "--max-cold-prefill-tokens",
        type=int,
        help="Most of a prompt that a worker may have to read anew.",
    ),
    click.option(
        "--cold-sampling",
        type=click.Choice(["raise", "refuse", "pass"]),
        help="A temperature so low that the model loops.  [default: raise]",
    ),
    click.option(
        "--engine-parameter",
        type=click.Choice(get_args(EngineParameter)),
        multiple=True,
        help="An engine's parameter it may set; give more than one if need be.  [default: all]",
    ),
    click.option(
        "--tool",
        metavar="GLOB",
        multiple=True,
        help="Tools it may use, by name; give more than one if need be.  [default: all]",
    ),
    click.option(
        "--tools-file",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help='More tools, with patterns for their arguments, as JSON: [{"name": "read_*", '
        '"arguments": {"path": "/srv/.*"}}].',
    ),
    click.option(
        "--priority",
        type=click.Choice([value.value for value in Priority]),
        help="Batch waits longer where workers are short.  [default: interactive]",
    ),
    click.option(
        "--worker-tag",
        metavar="TAG",
        multiple=True,
        help="A tag that its workers must have; give more than one if need be.  [default: none]",
    ),
    click.option(
        "--finish-after-leaving-seconds",
        type=int,
        help="How long a dear prefill goes on whose client has left.  [default: 0]",
    ),
    click.option(
        "--filter-profile",
        metavar="NAME",
        help="What is filtered; `gateway rules list` shows it.  [default: the settings']",
    ),
    click.option(
        "--domain",
        metavar="DOMAIN=ACTION",
        multiple=True,
        help=f"Prompts of a high-risk domain ({', '.join(Domain)}): "
        f"{', '.join(get_args(DomainAction))}; give more than one if need be.  "
        "[default: as the profile says]",
    ),
    click.option(
        "--audit",
        type=click.Choice(get_args(AuditLevelName)),
        help="What the audit log keeps: no text, what was said, or the thought as well.  "
        "[default: full]",
    ),
)


def policy_options(command: Command) -> Command:
    """Adds the options of PolicyOptions to a command."""
    for decorator in reversed(_DECORATORS):
        command = decorator(command)
    return command


def policy_of(options: PolicyOptions, unset: Sequence[str] = ()) -> Policy:
    """With the options that were given and None for what `unset` names: no other field is marked as
    set. Raises BadUsage, naming the option at fault and what in it is wrong."""
    path = options["tools_file"]
    tools: list[object] = [{"name": glob} for glob in options["tool"]]
    if path is not None:
        tools += _tools_in(path)
    values: dict[str, Any] = {
        "models": options["model"] or None,
        "engine_parameters": options["engine_parameter"] or None,
        "tools": tools if options["tool"] or path is not None else None,
        "domains": _domains_in(options["domain"]) or None,
        "worker_tags": options["worker_tag"] or None,
    }
    for name in Policy.model_fields.keys() - Limits.model_fields.keys() - values.keys():
        values[name] = options[name]  # type: ignore[literal-required]  # the rest has its name
    given = {name: value for name, value in values.items() if value is not None}
    given |= given_limits(options)
    try:
        return Policy.model_validate(with_unset(given, unset, Policy.model_fields, _NAMES))
    except ValidationError as error:
        name, *rest = _first(error)["loc"]
        option = option_of(str(name), _NAMES)
        if name == "tools" and not rest and path is not None:
            option = "--tools-file"
        raise BadUsage(f"{option}: {reason(error)}") from None


def limits_of(options: LimitOptions, unset: Sequence[str] = ()) -> Limits:
    """The same of limits alone."""
    changes = with_unset(given_limits(options), unset, Limits.model_fields, LIMIT_NAMES)
    try:
        return Limits.model_validate(changes)
    except ValidationError as error:
        option = option_of(str(_first(error)["loc"][0]), LIMIT_NAMES)
        raise BadUsage(f"{option}: {reason(error)}") from None


def policy_lines(policy: Limits) -> list[tuple[str, object]]:
    """Name and value of each field that is set."""
    shown = policy.model_dump(mode="json", exclude_defaults=True)
    return [
        # ASCII, so that no pattern can steer the terminal it is shown on.
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in shown.items()
    ]


def reason(error: ValidationError) -> str:
    """The first error's, in one line that follows on a name."""
    text = " ".join(str(_first(error)["msg"]).removeprefix("Value error, ").split())
    return f"{text[0].lower()}{text[1:]}"


def _domains_in(given: Sequence[str]) -> dict[Domain, str]:
    """Each `medical=refuse`, by its domain."""
    actions: dict[Domain, str] = {}
    for text in given:
        name, _, action = text.partition("=")
        if name not in frozenset(Domain):
            raise BadUsage(f"--domain: {name!a} is none of {', '.join(Domain)}")
        if action not in get_args(DomainAction):
            known = ", ".join(get_args(DomainAction))
            raise BadUsage(f"--domain: {name}: the action {action!a} is none of {known}")
        if Domain(name) in actions:
            raise BadUsage(f"--domain: {name} is given twice")
        actions[Domain(name)] = action
    return actions


def _tools_in(path: Path) -> list[object]:
    """The rules that a file holds; an empty list allows no tool at all."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOOLS_FILE_BYTES + 1)
    except OSError as error:
        raise BadUsage(f"--tools-file: cannot read {path}: {error.strerror}") from None
    if len(text) > MAX_TOOLS_FILE_BYTES:
        raise BadUsage(f"--tools-file: {path} has more than {MAX_TOOLS_FILE_BYTES} bytes")
    try:
        return list(_TOOLS.validate_json(text))
    except ValidationError as error:
        where = _where(_first(error)["loc"])
        raise BadUsage(f"--tools-file: {path}: {where}{reason(error)}") from None


_TOOLS: TypeAdapter[tuple[AllowedTool, ...]] = TypeAdapter(AllowedTools)


def _where(loc: Sequence[int | str]) -> str:
    """`[0].arguments.path: `, or nothing where it is the file as a whole."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    found = ascii("".join(parts))[1:-1]
    return f"{found}: " if found else ""


def _first(error: ValidationError) -> dict[str, Any]:
    return dict(error.errors(include_url=False, include_input=False)[0])
