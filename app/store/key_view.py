"""What may be shown of a key, to an operator of the admin API or at a terminal: no digest, and a
secret only once. Times are Unix seconds, as in OpenAI's own objects."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.store.api_key import KeyRecord
from app.store.keys import IssuedKey
from app.store.policy import Policy


class SecretView(BaseModel):
    hint: str
    created_at: int
    expires_at: int | None


class KeyView(BaseModel):
    object: Literal["api_key"] = "api_key"
    id: str
    name: str
    tenant: str
    enabled: bool
    plan: str | None
    policy: Policy = Field(description="The key's own.")
    effective_policy: Policy = Field(description="The key's own over its plan's.")
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    secrets: list[SecretView]


class IssuedKeyView(KeyView):
    """The one time that the secret is shown."""

    secret: str


class DeletedKeyView(BaseModel):
    object: Literal["api_key.deleted"] = "api_key.deleted"
    id: str
    deleted: bool = True


def view(key: KeyRecord) -> KeyView:
    return KeyView(
        id=key.id,
        name=key.name,
        tenant=key.tenant,
        enabled=key.enabled,
        plan=key.plan,
        policy=key.policy,
        effective_policy=key.effective_policy,
        created_at=int(key.created_at.timestamp()),
        expires_at=_seconds(key.expires_at),
        revoked_at=_seconds(key.revoked_at),
        secrets=[
            SecretView(
                hint=secret.hint,
                created_at=int(secret.created_at.timestamp()),
                expires_at=_seconds(secret.expires_at),
            )
            for secret in key.secrets
        ],
    )


def issued_view(issued: IssuedKey) -> IssuedKeyView:
    return IssuedKeyView(**dict(view(issued.key)), secret=issued.secret)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
