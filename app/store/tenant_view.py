"""What is shown of a tenant's limits. Times are Unix seconds."""

from typing import Literal

from pydantic import BaseModel

from app.store.policy import Limits
from app.store.tenant import TenantRecord


class TenantView(BaseModel):
    """`keys` is how many it has; those that are revoked do not count."""

    object: Literal["tenant"] = "tenant"
    name: str
    limits: Limits
    keys: int
    created_at: int
    updated_at: int


class DeletedTenantView(BaseModel):
    object: Literal["tenant.deleted"] = "tenant.deleted"
    name: str
    deleted: bool = True


def tenant_view(tenant: TenantRecord) -> TenantView:
    return TenantView(
        name=tenant.name,
        limits=tenant.limits,
        keys=tenant.keys,
        created_at=int(tenant.created_at.timestamp()),
        updated_at=int(tenant.updated_at.timestamp()),
    )
