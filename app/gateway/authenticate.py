"""Who is calling."""

from app.errors import Unauthenticated
from app.gateway.types import Principal
from app.store.keys import KeyStore


async def authenticate(credential: str, keys: KeyStore) -> Principal:
    """Raises Unauthenticated, in the same words whatever was wrong with the key, or Unavailable
    where the store cannot be asked: it fails closed."""
    key = await keys.authenticate(credential)
    if key is None:
        raise Unauthenticated("Incorrect API key provided.")
    return Principal(key.id, key.tenant, key.name, key.policy, key.tenant_limits)
