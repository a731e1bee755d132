"""What is shown of a tenant's settings. Times are Unix seconds."""

from typing import Literal

from pydantic import BaseModel

from app.store.policy import Limits
from app.store.tenant import AuditOnFailure, TenantRecord


class TenantView(BaseModel):
    """`keys` is how many it has; those that are revoked do not count."""

    object: Literal["tenant"] = "tenant"
    name: str
    limits: Limits
    audit_on_failure: AuditOnFailure
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
        audit_on_failure=tenant.audit_on_failure,
        keys=tenant.keys,
        created_at=int(tenant.created_at.timestamp()),
        updated_at=int(tenant.updated_at.timestamp()),
    )
