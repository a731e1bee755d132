"""What the admin routes have in common: the store, and how a list is paged."""

from typing import Annotated, cast

from fastapi import Depends, Query, Request

from app.api.validation import explain_one
from app.store.keys import KeyStore
from app.store.paging import MAX_PAGE_ROWS


async def _keys(request: Request) -> KeyStore:
    return cast(KeyStore, request.app.state.gateway.keys)


async def known_parameters_only(request: Request) -> None:
    """Raises InvalidRequest for a query parameter that the route does not have: a filter that is
    ignored would answer with everybody's records. Looks at the route's own, not at those of its
    dependencies, which have none."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            raise explain_one((name,), "extra_forbidden", "")


Keys = Annotated[KeyStore, Depends(_keys)]
PageLimit = Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS)]
