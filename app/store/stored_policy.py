"""Policies and limits as Postgres keeps them: only the fields that are set, as JSON. And the one
setting of a tenant that is a column."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from sqlalchemy import Column, ColumnElement, func, literal
from sqlalchemy.dialects.postgresql import JSONB

from app.errors import InternalError
from app.store.policy import Limits, Policy
from app.store.tenant import AuditOnFailure

Stored = TypeVar("Stored", bound=Limits)


def policy_from_store(stored: Mapping[str, object], of: str) -> Policy:
    """`of` says whose it is, as in `plan gold`.

    Raises InternalError for what a newer version wrote: a restriction that we do not know must not
    be dropped.
    """
    return _read(Policy, stored, f"The policy of the {of}")


def limits_from_store(stored: Mapping[str, object], of: str) -> Limits:
    """Raises InternalError, as above."""
    return _read(Limits, stored, f"The limits of the {of}")


def audit_on_failure_from_store(stored: str | None, of: str) -> AuditOnFailure:
    """`closed` where nothing is stored. Raises InternalError, as above."""
    for known in get_args(AuditOnFailure):
        if stored in (None, known):
            return known  # type: ignore[no-any-return]  # get_args does not say what of
    raise InternalError(f"What the {of} wants without an audit log cannot be read.")


def effective_policy(own: Policy, plan: Policy | None) -> Policy:
    """What the key's own policy sets wins, field by field; the rest is the plan's."""
    if plan is None:
        return own
    # Both are valid, and no field's validity depends on another.
    return plan.model_copy(update={name: value for name, value in own if value is not None})


def values_to_store(limits: Limits) -> dict[str, Any]:
    return limits.model_dump(mode="json", exclude_none=True)


def merged_into(column: Column[Any], changes: Limits) -> ColumnElement[Any]:
    """The column with the fields that `changes` names, without those that it sets to None. Merged
    by Postgres, so that two changes at once do not undo each other."""
    patch = changes.model_dump(mode="json", exclude_unset=True)
    return func.jsonb_strip_nulls(column.concat(literal(patch, JSONB)), type_=JSONB)


def _read(kind: type[Stored], stored: Mapping[str, object], what: str) -> Stored:
    try:
        return kind.model_validate(stored)
    except ValidationError:
        raise InternalError(f"{what} cannot be read.") from None
