"""What is shown of a list: one page of it, as OpenAI's are."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel

from app.store.paging import Page

Record = TypeVar("Record")
View = TypeVar("View")


class PageView(BaseModel, Generic[View]):
    object: Literal["list"] = "list"
    data: list[View]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page_view(
    page: Page[Record], view: Callable[[Record], View], identity: Callable[[Record], str]
) -> PageView[View]:
    """`identity` is what the next page is asked for by."""
    return PageView(
        data=[view(record) for record in page.records],
        first_id=identity(page.records[0]) if page.records else None,
        last_id=identity(page.records[-1]) if page.records else None,
        has_more=page.has_more,
    )
