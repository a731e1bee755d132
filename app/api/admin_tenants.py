"""`/admin/v1/tenants`: limits over all keys of a tenant together, and what becomes of its requests
while they cannot be recorded."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.admin_parameters import Keys, PageLimit
from app.store.page_view import PageView, page_view
from app.store.paging import PAGE_ROWS
from app.store.tenant import Tenant, TenantChanges
from app.store.tenant_view import DeletedTenantView, TenantView, tenant_view

Name = Annotated[Tenant, Path()]
ONE_TENANT = "/tenants/{name:path}"  # names may hold slashes


def add_tenant_routes(router: APIRouter) -> None:
    router.get("/tenants")(list_tenants)
    router.get(ONE_TENANT)(get_tenant)
    router.patch(ONE_TENANT)(update_tenant)
    router.delete(ONE_TENANT)(delete_tenant)


async def list_tenants(
    keys: Keys, after: Tenant | None = None, limit: PageLimit = PAGE_ROWS
) -> PageView[TenantView]:
    """Tenants that have settings of their own, newest first; `after` is the last name of the page
    before."""
    page = await keys.tenants.page(after=after, limit=limit)
    return page_view(page, tenant_view, lambda tenant: tenant.name)


async def get_tenant(name: Name, keys: Keys) -> TenantView:
    """Not found where the tenant has no settings of its own, whether or not it has keys."""
    return tenant_view(await keys.tenants.get(name))


async def update_tenant(name: Name, changes: TenantChanges, keys: Keys) -> TenantView:
    """Set what is named; null takes a limit away. Makes the tenant where it had no settings. It
    acts everywhere within 5 seconds."""
    return tenant_view(await keys.update_tenant(name, changes))


async def delete_tenant(name: Name, keys: Keys) -> DeletedTenantView:
    """Take all settings of the tenant away. Its keys stay."""
    await keys.delete_tenant(name)
    return DeletedTenantView(name=name)
