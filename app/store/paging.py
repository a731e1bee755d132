"""Lists in pages, newest first, as OpenAI's are: a page begins after the last row of another."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, ColumnElement, Select, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import InvalidRequest

PAGE_ROWS = 20  # OpenAI's default
MAX_PAGE_ROWS = 100  # and its most

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Page(Generic[Record]):
    """Newest first. `has_more`: older ones follow after the last of these."""

    records: tuple[Record, ...]
    has_more: bool


async def all_records(
    page: Callable[[str | None], Awaitable[Page[Record]]], identity: Callable[[Record], str]
) -> list[Record]:
    """Page after page, to the last; `page` gives the one after a record."""
    found: list[Record] = []
    has_more = True
    while has_more:
        next_page = await page(identity(found[-1]) if found else None)
        found.extend(next_page.records)
        has_more = next_page.has_more
    return found


def newest_first(wanted: Select[Any], identity: Column[Any]) -> Select[Any]:
    """By the `created_at` of the table of `identity`, which tells those of one moment apart."""
    return wanted.order_by(identity.table.c.created_at.desc(), identity.desc())


async def older_than(
    connection: AsyncConnection, identity: Column[Any], after: str, *, what: str
) -> ColumnElement[bool]:
    """The condition for what follows the row `after`. Raises InvalidRequest if there is none;
    `what` says what is missing, as in `key with this id`."""
    created_at = identity.table.c.created_at
    moment = await connection.scalar(select(created_at).where(identity == after))
    if moment is None:
        raise InvalidRequest(f"There is no {what}.", param="after")
    return tuple_(created_at, identity) < tuple_(literal(moment, created_at.type), literal(after))
