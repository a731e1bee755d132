"""A file of rules: a pack, profiles, or both, as YAML.

pack: acme
description: What must not leave the house.
rules:
  - id: project
    description: Names of projects that are not announced.
    phrases: [blue heron, grey seal]        # whole words, whatever their case
  - id: ticket
    description: Numbers of support tickets.
    pattern: '(?<![A-Za-z0-9_])ACME-[0-9]{4,8}(?![A-Za-z0-9_])'
    replacement: '[ticket]'                 # else `[<id>]`
    matches: [see ACME-12345]               # checked when the file is read
    spares: [ACME-1]
profiles:
  support:
    output: {secrets: mask, acme: mask, acme.ticket: flag}     # packs, or rules of theirs
    input: {secrets: flag}
    domains: {medical: annotate}

Patterns are written for folded text: width, look-alike letters and other digits are read as ASCII.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from app.protocol.domains import Domain
from app.protocol.filters.fold import fold
from app.rules.strict_yaml import NotYaml, parse
from app.store.policy import DomainAction

MAX_PHRASES = 2_000  # of one rule
MAX_PHRASE_CHARACTERS = 200  # far more than a name; a rule's bound limits them further
MAX_PATTERN_CHARACTERS = 4_096
MAX_REPLACEMENT_CHARACTERS = 64
MAX_EXAMPLES = 200  # of one rule, of each kind
MAX_EXAMPLE_CHARACTERS = 4_096
MAX_DESCRIPTION_CHARACTERS = 1_000
MAX_FILE_RULES = 512  # of one file; a rulebook has its own limit
MAX_FILE_PROFILES = 64


class RulesRefused(ValueError):
    """The reason, in one line that names the file, the rule and the field."""

    def __init__(self, reason: str) -> None:
        # Texts of the file stand in it: none of them may move a cursor or forge a line of a log.
        super().__init__(
            "".join(
                character if character.isprintable() else ascii(character)[1:-1]
                for character in " ".join(reason.split())
            )
        )


def _harmless_in_json(text: str) -> str:
    if json.dumps(text, ensure_ascii=False) != f'"{text}"' or not text.isprintable():
        raise ValueError("holds a quotation mark, a backslash or an invisible character")
    return text


def _visible(phrase: str) -> str:
    if not fold(phrase).split():
        raise ValueError("holds nothing that can be seen")
    return phrase


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _off(value: object) -> object:
    """YAML 1.1, which other tools write and read, takes a bare `off` for false."""
    return "off" if value is False else value


Name = Annotated[StrictStr, Field(pattern=r"\A[a-z0-9-]{1,48}\z")]
Target = Annotated[StrictStr, Field(pattern=r"\A[a-z0-9-]{1,48}(\.[a-z0-9-]{1,48})?\z")]
Description = Annotated[
    StrictStr, AfterValidator(_one_line), Field(max_length=MAX_DESCRIPTION_CHARACTERS)
]
Pattern = Annotated[StrictStr, Field(min_length=1, max_length=MAX_PATTERN_CHARACTERS)]
Phrase = Annotated[StrictStr, Field(max_length=MAX_PHRASE_CHARACTERS), AfterValidator(_visible)]
Replacement = Annotated[
    StrictStr,
    Field(max_length=MAX_REPLACEMENT_CHARACTERS),  # empty: the match is taken out
    AfterValidator(_harmless_in_json),
]
Example = Annotated[StrictStr, Field(min_length=1, max_length=MAX_EXAMPLE_CHARACTERS)]
Examples = Annotated[tuple[Example, ...], Field(max_length=MAX_EXAMPLES)]

OutputAction = Annotated[Literal["mask", "block", "flag", "off"], BeforeValidator(_off)]
InputAction = Annotated[Literal["mask", "refuse", "flag", "off"], BeforeValidator(_off)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleDocument(_Model):
    """One of `pattern` and `phrases`. `then` is a character class: what follows a match and is of
    it is cut as well. `matches` and `spares` are texts that must and must not hold a match."""

    id: Name
    description: Description = ""
    pattern: Pattern | None = None
    phrases: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=MAX_PHRASES)] | None = (
        None
    )
    ignore_case: bool = False  # phrases always do
    validator: Name | None = None
    then: Annotated[StrictStr, Field(min_length=1, max_length=MAX_PATTERN_CHARACTERS)] | None = None
    replacement: Replacement | None = None
    matches: Examples = ()
    spares: Examples = ()

    @model_validator(mode="after")
    def _looks_for_one_thing(self) -> "RuleDocument":
        if (self.pattern is None) == (self.phrases is None):
            raise ValueError('give either "pattern" or "phrases"')
        return self


class ProfileDocument(_Model):
    """What is done, by the name of a pack or the full id of a rule (which wins); else nothing."""

    output: Mapping[Target, OutputAction] = Field(default_factory=dict)
    input: Mapping[Target, InputAction] = Field(default_factory=dict)
    domains: Mapping[Domain, DomainAction] = Field(default_factory=dict)
    dry_run: bool = False  # everything is only counted


class RulesDocument(_Model):
    pack: Name | None = None
    description: Description = ""
    rules: Annotated[tuple[RuleDocument, ...], Field(max_length=MAX_FILE_RULES)] = ()
    profiles: Annotated[Mapping[Name, ProfileDocument], Field(max_length=MAX_FILE_PROFILES)] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _is_whole(self) -> "RulesDocument":
        if self.rules and self.pack is None:
            raise ValueError('give the rules a pack, as in "pack: acme"')
        if self.pack is not None and not self.rules:
            raise ValueError("the pack has no rules")
        if not self.rules and not self.profiles:
            raise ValueError('holds neither a "pack" nor "profiles"')
        seen: set[str] = set()
        for rule in self.rules:
            if rule.id in seen:
                raise ValueError(f'two rules have the id "{rule.id}"')
            seen.add(rule.id)
        return self


def read_document(name: str, text: str) -> RulesDocument:
    """`name` is the file's, for errors. Raises RulesRefused."""
    try:
        values = parse(text)
    except NotYaml as error:
        raise RulesRefused(f"{name}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise RulesRefused(f'{name}: must hold "pack" and "rules", or "profiles"')
    try:
        return RulesDocument.model_validate(values)
    except ValidationError as error:
        raise RulesRefused(f"{name}: {_reason(error, values)}") from None


# Where pydantic's own words would not tell what to write.
_REASONS = {
    "extra_forbidden": "is not a field",
    "string_type": "must be text",
    "string_unicode": "holds half of a surrogate pair",
    "tuple_type": "must be a list",
    "mapping_type": "must hold `name: value` pairs",
    "dict_type": "must hold `name: value` pairs",
    "model_type": "must hold `name: value` pairs",
    "missing": "is missing",
    "bool_parsing": "must be true or false",
    "too_long": "has more than {max_length} entries",
    "too_short": "is empty",
    "string_too_long": "has more than {max_length} characters",
    "string_too_short": "is empty",
}


def _reason(error: ValidationError, values: Mapping[Any, Any]) -> str:
    """The first error, behind the rule or profile and the field it is about."""
    first = error.errors(include_url=False, include_input=False)[0]
    reason = _REASONS.get(first["type"])
    if reason is not None:
        reason = reason.format_map(first.get("ctx", {}))
    if first["type"] == "string_pattern_mismatch":
        reason = "must be 1 to 48 of a-z, 0-9 and -"
    if reason is None:
        text = str(first["msg"]).removeprefix("Value error, ")
        reason = f"{text[0].lower()}{text[1:]}"
    where = _where(first["loc"], values)
    return f"{where}: {reason}" if where else reason


def _where(loc: tuple[int | str, ...], values: Mapping[Any, Any]) -> str:
    """`rule ticket: pattern`, `profile support: output.secrets`."""
    match loc:
        case ("rules", int(index), *rest):
            rule = values["rules"][index]
            name = rule.get("id") if isinstance(rule, dict) else None
            owner = f"rule {name if isinstance(name, str) else index + 1}"
        case ("profiles", str(name), *rest):
            owner = f"profile {name}"
        case _:
            owner, rest = "", list(loc)
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest if part != "[key]"
    )
    return ": ".join(part for part in (owner, field.removeprefix(".")) if part)
