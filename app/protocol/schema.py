"""Arguments of a tool call, held against the tool's own schema.

The schema is the client's and may be hostile: it is not allowed to fetch anything, to run a
regular expression, or to take more than a bounded number of steps. What cannot be checked within
these bounds passes, as without a schema, and so does what is held against an invalid schema.
"""

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import UnknownType
from referencing import Registry
from referencing.exceptions import Unresolvable

from app.protocol.request import Json

MAX_STEPS = 20_000  # about 5 us each: 0.1 s
ITEMS_PER_STEP = 8  # of a keyword's value, or of the array or object that it looks at
# A failure quotes what it saw, and `anyOf` gathers the failures of its branches.
QUOTED_CHARACTERS_PER_STEP = 256
MAX_REASON_CHARACTERS = 200

# `pattern` can be catastrophic, `uniqueItems` takes quadratic time, `unevaluated...` runs the
# patterns of others, `format` is not looked at by default.
_UNCHECKED = frozenset(
    {
        "pattern", "patternProperties", "format", "uniqueItems",
        "unevaluatedItems", "unevaluatedProperties", "$dynamicRef",
    }
)  # fmt: skip
# Under these a rule that is passed over may refuse what it would have allowed.
_EXACT = frozenset({"not", "oneOf", "if", "contains"})

# These compare the argument with all that stands in their values.
_COMPARED = frozenset({"enum", "const"})

_NUMBERS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
)  # fmt: skip

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _CannotTell(Exception):
    """Out of steps, or the schema cannot be applied."""


@dataclass(slots=True)
class Steps:
    """What checks may still cost: keywords looked at and failures, large ones more."""

    left: int = MAX_STEPS

    def take(self, steps: int) -> None:
        """Raises _CannotTell where there are not so many."""
        self.left -= steps
        if self.left < 0:
            self.left = 0
            raise _CannotTell


@dataclass(slots=True)
class _Run:
    steps: Steps
    exact: int = 0  # how many keywords of _EXACT we are under
    last: ValidationError | None = None  # that was paid for; it passes every keyword above it


_run: ContextVar[_Run] = ContextVar("run")


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_lists(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(names, list) for names in value.values())


def _is_type(value: Any) -> bool:
    return isinstance(value, str) or _is_list(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # draft 4 had booleans


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_pointer(value: Any) -> bool:
    """Anchors and other documents are not looked for: that would take a search of the schema."""
    return isinstance(value, str) and (value == "#" or value.startswith("#/"))


# What a keyword's value must be, or else the schema is invalid and nothing follows from it.
_SHAPES: dict[str, Callable[[Any], bool]] = {
    "$ref": _is_pointer,
    "type": _is_type,
    "required": _is_names,
    "dependentRequired": _is_lists,
    **dict.fromkeys(("enum", "allOf", "anyOf", "oneOf", "prefixItems"), _is_list),
    **dict.fromkeys(("properties", "dependentSchemas"), _is_object),
    **dict.fromkeys(
        ("items", "contains", "not", "if", "propertyNames", "additionalProperties"), _is_schema
    ),
    **dict.fromkeys(_NUMBERS, _is_number),
}


def _size(value: Any, most: int) -> int:
    """How many values stand in it, at all depths; counted no further than shortly past `most`."""
    size, todo = 0, [value]
    while todo and size <= most:
        inner = todo.pop()
        size += 1
        if isinstance(inner, list | dict):
            size += len(inner)
            todo += inner.values() if isinstance(inner, dict) else inner
        elif isinstance(inner, str):
            size += len(inner) // QUOTED_CHARACTERS_PER_STEP
    return size


def _bounded(name: str, keyword: Keyword) -> Keyword:
    """The keyword, counted, and only where its value is one."""
    shape = _SHAPES.get(name)

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        run = _run.get()
        if name in _COMPARED:
            items = _size(value, run.steps.left * ITEMS_PER_STEP)
        else:
            items = len(value) if isinstance(value, list | dict | str) else 0
        items += len(instance) if isinstance(instance, list | dict) else 0
        run.steps.take(1 + items // ITEMS_PER_STEP)
        if shape is not None and not shape(value):
            raise _CannotTell
        errors = keyword(validator, value, instance, schema) or ()
        for error in _exactly(run, errors) if name in _EXACT else errors:
            if error is not run.last:
                run.last = error
                run.steps.take(1 + len(error.message) // QUOTED_CHARACTERS_PER_STEP)
            yield error

    return check


def _exactly(run: _Run, errors: Iterable[ValidationError]) -> list[ValidationError]:
    run.exact += 1
    try:
        return list(errors)
    finally:
        run.exact -= 1


def _unchecked(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    run = _run.get()
    run.steps.take(1)
    if run.exact:
        raise _CannotTell


def _nullable(keyword: Keyword) -> Keyword:
    """OpenAPI's word for "or null", which clients use in tools as well."""

    def check(
        validator: Any, value: Any, instance: Any, schema: Any
    ) -> Iterable[ValidationError] | None:
        if instance is None and schema.get("nullable") is True:
            return None
        return keyword(validator, value, instance, schema)

    return check


def _additional_properties(
    validator: Any, value: Any, instance: Any, schema: Any
) -> Iterable[ValidationError] | None:
    """Where names are matched by patterns, which are not run, none can be called additional."""
    if "patternProperties" in schema:
        _unchecked(validator, value, instance, schema)
        return None
    return _ORIGINAL["additionalProperties"](validator, value, instance, schema)


_ORIGINAL: dict[str, Keyword] = dict(Draft202012Validator.VALIDATORS)
_KEYWORDS: dict[str, Keyword] = {
    **{name: _bounded(name, keyword) for name, keyword in _ORIGINAL.items()},
    **{name: _bounded(name, _nullable(_ORIGINAL[name])) for name in ("type", "enum")},
    "additionalProperties": _bounded("additionalProperties", _additional_properties),
    **dict.fromkeys(_UNCHECKED, _unchecked),
}
_Validator: Any = validators.create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators=_KEYWORDS,  # type: ignore[arg-type]  # a keyword may return None, as its own do
    type_checker=Draft202012Validator.TYPE_CHECKER,
)


def _evolve(self: Any, *, schema: Any, _resolver: Any = None) -> Any:
    """The library's own picks another class where a schema within names its dialect, and that
    one would run patterns, uncounted. A schema within that names itself is not followed."""
    if isinstance(schema, dict) and "$id" in schema:
        raise _CannotTell
    return _Validator(schema, registry=self._registry, _resolver=_resolver or self._resolver)


_Validator.evolve = _evolve


class ArgumentChecker:
    """One schema; None accepts everything. Checkers that are given the same `steps` share them;
    without, each check has MAX_STEPS of its own."""

    def __init__(self, schema: Json | None, steps: Steps | None = None) -> None:
        self._schema = schema
        self._steps = steps
        self._validator: Any = None

    def mismatch(self, arguments: Json) -> str | None:
        """Which rule the arguments break, by its place in the schema; no value is quoted."""
        if self._schema is None:
            return None
        token = _run.set(_Run(self._steps or Steps()))
        try:
            error = next(self._compiled().iter_errors(arguments), None)
        except (_CannotTell, RecursionError, Unresolvable, UnknownType):
            return None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return None  # a schema that is none
        finally:
            _run.reset(token)
        if error is None:
            return None
        return "/".join(map(str, error.absolute_schema_path))[:MAX_REASON_CHARACTERS]

    def _compiled(self) -> Any:
        if self._validator is None:
            schema = self._schema
            if isinstance(schema, dict):  # `#` is the whole of it, whatever it is called
                schema = {key: schema[key] for key in schema if key not in ("$id", "$schema")}
            # An empty registry: the default one would fetch what a `$ref` names.
            self._validator = _Validator(schema, registry=Registry())
        return self._validator
