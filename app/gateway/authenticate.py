"""Who is calling."""

from collections.abc import Callable

from app.errors import AuthenticationFailure, Unauthenticated
from app.gateway.types import Principal
from app.limits.attempts import FailedAttempts
from app.limits.client_network import client_network
from app.store.api_key import ApiKey
from app.store.keys import LOOKUP_SECONDS, KeyStore
from app.store.secrets import is_well_formed
from app.store.transaction import KEY_STORE_UNAVAILABLE, DatabaseUnavailable

_INCORRECT = "Incorrect API key provided."


async def authenticate(
    credential: Callable[[], str],
    client_ip: str | None,
    keys: KeyStore,
    attempts: FailedAttempts,
) -> Principal:
    """`credential` gives the secret presented, or raises Unauthenticated where there is none.

    Raises Unauthenticated, in the same words whatever was wrong with the key;
    AuthenticationThrottled where too many have failed from the client's network; or Unavailable
    where the store cannot be asked: it fails closed.

    Keys that this process has seen to be good work on from whatever network, as many share one
    address. A good key that it has not seen yet has to wait with the guesses, because nothing but
    the store could tell it from one.
    """
    try:
        secret = credential()
    except Unauthenticated:
        _fail(client_ip, attempts)
        raise
    if keys.has_opened(secret):
        key = await keys.authenticate(secret)
        if key is None:
            attempts.fail(client_network(client_ip))
    elif is_well_formed(secret):
        key = await _ask_about_stranger(secret, client_network(client_ip), keys, attempts)
    else:
        _fail(client_ip, attempts)
        raise Unauthenticated(_INCORRECT, AuthenticationFailure.MALFORMED)
    if key is None:
        raise Unauthenticated(_INCORRECT)
    return Principal(
        key_id=key.id,
        tenant=key.tenant,
        name=key.name,
        policy=key.policy,
        tenant_limits=key.tenant_limits,
        audit_on_failure=key.tenant_audit_on_failure,
    )


def _fail(client_ip: str | None, attempts: FailedAttempts) -> None:
    """Counts a failure that needs no asking. Raises AuthenticationThrottled."""
    network = client_network(client_ip)
    attempts.check(network)
    attempts.fail(network)


async def _ask_about_stranger(
    secret: str, network: str, keys: KeyStore, attempts: FailedAttempts
) -> ApiKey | None:
    try:
        async with attempts.undecided(network, within_seconds=LOOKUP_SECONDS) as attempt:
            key = await keys.authenticate(secret)
            attempt.failed = key is None
            return key
    except TimeoutError:
        reason = f"no turn within {LOOKUP_SECONDS:g} s"
        raise DatabaseUnavailable(reason, code=KEY_STORE_UNAVAILABLE) from None
