"""The key store: whom a secret belongs to, and the issue and change of keys."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.api_key import ApiKey, KeyChanges, KeyDraft, KeyRecord
from app.store.key_cache import Answer, KeyCache
from app.store.key_records import KeyRecords
from app.store.plan import PlanChanges, PlanRecord
from app.store.plan_records import PlanRecords
from app.store.secrets import digest_of, is_well_formed, mint_secret
from app.store.shared_lookups import SharedLookups
from app.store.tenant import TenantChanges, TenantRecord
from app.store.tenant_records import TenantRecords
from app.store.transaction import KEY_STORE_UNAVAILABLE, DatabaseUnavailable

__all__ = ["ApiKey", "IssuedKey", "KeyStore"]

LOOKUP_SECONDS = 2.0  # a database that hangs must not hang every request with it
# Of the pool's five connections: a flood of made-up secrets leaves the rest to keys in use.
STRANGERS_AT_ONCE = 2
DEFAULT_GRACE_SECONDS = 24 * 3600.0  # time to deploy a new secret everywhere

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its new secret, which nobody can read again."""

    key: KeyRecord
    secret: str = field(repr=False)


def utc_now() -> datetime:
    return datetime.now(UTC)


class KeyStore:
    """Answers are cached by the full digest for `cache_seconds`, counted from when the database
    was asked: what is revoked anywhere stops working everywhere within that, and a plan or a
    tenant that is changed anywhere acts everywhere. What is changed through this store acts here
    at once.

    While the database is away, a key that it has confirmed in the last `outage_seconds` works on;
    what is revoked meanwhile does, too, where the revocation cannot be heard of.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        pepper: bytes,
        *,
        cache_seconds: float,
        cache_entries: int,
        outage_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.records = KeyRecords(engine)
        self.plans = PlanRecords(engine)
        self.tenants = TenantRecords(engine)
        self._pepper = pepper
        self._clock = clock
        self._now = now
        self._cache = KeyCache(seconds=cache_seconds, entries=cache_entries)
        self._cache_seconds = cache_seconds
        self._outage_seconds = outage_seconds
        self._answered_at = clock()  # by the database
        self._away_until = float("-inf")  # it is not asked before, of a key that may do without
        self._away = False
        # So often was something changed through this store: what was asked before is not joined,
        # and what is answered after that is not kept.
        self._changes = 0
        self._lookups: SharedLookups[tuple[bytes, int], ApiKey | None] = SharedLookups(
            max_age_seconds=cache_seconds, clock=clock
        )
        self._strangers = asyncio.Semaphore(STRANGERS_AT_ONCE)

    async def authenticate(self, secret: str) -> ApiKey | None:
        """The key, or None for a secret that is malformed, unknown, expired, or of a key that is
        disabled or revoked. Raises DatabaseUnavailable (503 `key_store_unavailable`)."""
        if not is_well_formed(secret):
            return None
        digest = digest_of(secret, self._pepper)
        answer = self._cache.get(digest, self._clock())
        key = answer.key if answer is not None else await self._look_up_or_remember(digest)
        if key is None or key.has_expired(self._now()):
            return None
        return key

    def has_opened(self, secret: str) -> bool:
        """Whether this process has seen the secret open a key, however long ago, and not fail
        since. Asks nobody."""
        return self._cache.has_opened(digest_of(secret, self._pepper))

    @property
    def serves_without_database(self) -> bool:
        """Whether there may be keys that work while the database is away."""
        return self._clock() - self._answered_at < self._outage_seconds

    async def create(self, draft: KeyDraft) -> IssuedKey:
        """Raises InvalidRequest for an expiry that is over already, and for an unknown plan."""
        minted = mint_secret(self._pepper)
        return IssuedKey(await self.records.create(draft, minted), minted.secret)

    async def update(self, key_id: str, changes: KeyChanges) -> KeyRecord:
        """Raises NotFound, and InvalidRequest for a revoked key (`key_revoked`) and for an unknown
        plan."""
        key = await self.records.update(key_id, changes)
        self._outdate(lambda known: known.id == key_id)
        return key

    async def revoke(self, key_id: str) -> KeyRecord:
        """For ever, with all of its secrets. Raises NotFound."""
        key = await self.records.revoke(key_id)
        self._forget(key_id)
        return key

    async def rotate(
        self, key_id: str, *, grace_seconds: float = DEFAULT_GRACE_SECONDS
    ) -> IssuedKey:
        """A new secret; those before it work `grace_seconds` longer. Raises NotFound, and
        InvalidRequest (`key_revoked`) for a revoked key."""
        minted = mint_secret(self._pepper)
        key = await self.records.rotate(key_id, minted, grace_seconds=grace_seconds)
        self._forget(key_id)
        return IssuedKey(key, minted.secret)

    async def update_plan(self, name: str, changes: PlanChanges) -> PlanRecord:
        """Raises NotFound."""
        plan = await self.plans.update(name, changes)
        self._outdate(lambda key: key.plan == name)
        return plan

    async def update_tenant(self, name: str, changes: TenantChanges) -> TenantRecord:
        tenant = await self.tenants.update(name, changes)
        self._outdate(lambda key: key.tenant == name)
        return tenant

    async def delete_tenant(self, name: str) -> None:
        """Its settings go, its keys stay. Raises NotFound where it has none of its own."""
        await self.tenants.delete(name)
        self._outdate(lambda key: key.tenant == name)

    def _forget(self, key_id: str) -> None:
        self._changes += 1
        self._cache.forget(key_id)

    def _outdate(self, concerned: Callable[[ApiKey], bool]) -> None:
        self._changes += 1
        self._cache.outdate(concerned)

    async def _look_up_or_remember(self, digest: bytes) -> ApiKey | None:
        now = self._clock()
        remembered = self._cache.remembered(digest, now - self._outage_seconds)
        if remembered is not None and now < self._away_until:
            return remembered
        try:
            key = await self._look_up(digest)
        except DatabaseUnavailable:
            self._away_until = self._clock() + self._cache_seconds
            remembered = self._cache.remembered(digest, self._clock() - self._outage_seconds)
            if remembered is None:
                raise
            if not self._away:
                self._away = True
                log.error("key_store_away", known_keys_work_seconds=self._outage_seconds)
            return remembered
        if self._away:
            self._away = False
            log.warning("key_store_back")
        return key

    async def _look_up(self, digest: bytes) -> ApiKey | None:
        return await self._lookups.run((digest, self._changes), lambda: self._ask(digest))

    async def _ask(self, digest: bytes) -> ApiKey | None:
        known, changes = self._cache.has_opened(digest), self._changes
        lane = contextlib.nullcontext() if known else self._strangers
        try:
            async with asyncio.timeout(LOOKUP_SECONDS), lane:
                asked_at = self._clock()
                key = await self.records.find(digest)
                self._answered_at = asked_at
        except TimeoutError:
            reason = f"no answer within {LOOKUP_SECONDS:g} s"
            raise DatabaseUnavailable(reason, code=KEY_STORE_UNAVAILABLE) from None
        if changes == self._changes:
            self._cache.put(digest, Answer(key, asked_at))
        return key
