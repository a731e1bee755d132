"""What the admin routes have in common: the store, and how a list is paged."""

from typing import Annotated, cast

from fastapi import Depends, Query, Request

from app.store.keys import KeyStore
from app.store.paging import MAX_PAGE_ROWS


async def _keys(request: Request) -> KeyStore:
    return cast(KeyStore, request.app.state.gateway.keys)


Keys = Annotated[KeyStore, Depends(_keys)]
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)]
