"""`/admin/v1/keys`: issue, list, show, change, revoke and rotate API keys."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.admin_parameters import Keys, PageLimit
from app.store.api_key import KeyChanges, KeyDraft
from app.store.key_records import MAX_GRACE_SECONDS
from app.store.key_view import (
    DeletedKeyView,
    IssuedKeyView,
    KeyView,
    issued_view,
    view,
)
from app.store.keys import DEFAULT_GRACE_SECONDS
from app.store.page_view import PageView, page_view
from app.store.paging import PAGE_ROWS


class Rotation(BaseModel):
    """How long older secrets work on; 0 ends them at once."""

    model_config = ConfigDict(extra="forbid")

    grace_seconds: float = Field(default=DEFAULT_GRACE_SECONDS, ge=0, le=MAX_GRACE_SECONDS)


def add_key_routes(router: APIRouter) -> None:
    router.post("/keys", status_code=201)(create_key)
    router.get("/keys")(list_keys)
    router.get("/keys/{key_id}")(get_key)
    router.patch("/keys/{key_id}")(update_key)
    router.delete("/keys/{key_id}")(revoke_key)
    router.post("/keys/{key_id}/rotate")(rotate_key)


async def create_key(draft: KeyDraft, keys: Keys) -> IssuedKeyView:
    """Issue a key. The answer holds its secret, which is not shown again."""
    return issued_view(await keys.create(draft))


async def list_keys(
    keys: Keys, tenant: str | None = None, after: str | None = None, limit: PageLimit = PAGE_ROWS
) -> PageView[KeyView]:
    """Keys, newest first; `after` is the last id of the page before."""
    page = await keys.records.page(tenant=tenant, after=after, limit=limit)
    return page_view(page, view, lambda key: key.id)


async def get_key(key_id: str, keys: Keys) -> KeyView:
    return view(await keys.records.get(key_id))


async def update_key(key_id: str, changes: KeyChanges, keys: Keys) -> KeyView:
    """Change what is named, and nothing else. It acts everywhere within 5 seconds."""
    return view(await keys.update(key_id, changes))


async def revoke_key(key_id: str, keys: Keys) -> DeletedKeyView:
    """End a key for ever. It stops working everywhere within 5 seconds."""
    return DeletedKeyView(id=(await keys.revoke(key_id)).id)


async def rotate_key(key_id: str, keys: Keys, rotation: Rotation | None = None) -> IssuedKeyView:
    """Issue a new secret for a key; those before it work on for the grace period."""
    grace_seconds = (rotation or Rotation()).grace_seconds
    return issued_view(await keys.rotate(key_id, grace_seconds=grace_seconds))
