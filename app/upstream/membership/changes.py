"""Who is in the pool, and how that changes while requests run.

Several sources each name workers. The pool holds all that any of them names, each once: where two
name the same, the one that is declared before the other says how it is asked. What nobody names any
more leaves: it gets nothing new, its requests run to their ends, and with the last of them it is
removed. Nothing is ever cut.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import structlog

from app.errors import Conflict, NotFound
from app.settings.worker import WorkerSettings, by_name
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.endpoint import Endpoint
from app.upstream.pool import Pool

# What was counted of a worker is shown for so long after its removal: two scrapes at a minute each
# see the last of it.
SHOWN_SECONDS = 120.0

log = structlog.get_logger()


class Source(StrEnum):
    """In this order they are believed."""

    SETTINGS = "settings"
    FILE = "file"
    DNS = "dns"
    ADMIN = "admin"


# What these name, they would name again at once.
STANDING = (Source.FILE, Source.DNS)


@dataclass(slots=True, eq=False)
class Member:
    """A worker of the pool. `held`: an operator said that it shall get nothing new, which holds as
    long as it is named. `leaving`: no source names it any more."""

    endpoint: Endpoint
    source: Source
    held: bool = False
    leaving: bool = False

    @property
    def name(self) -> str:
        return self.endpoint.name


Forget = Callable[[Endpoint], None]


class Membership:
    """The only one that adds to the pool or takes from it. Belongs to one running loop."""

    def __init__(self, pool: Pool, metrics: PoolMetrics, forget: Sequence[Forget] = ()) -> None:
        """`forget` are called with each worker that was removed, while no other has its name."""
        self._pool = pool
        self._metrics = metrics
        self._forget = forget
        self._named: dict[Source, dict[str, WorkerSettings]] = {source: {} for source in Source}
        self._members: dict[str, Member] = {}
        # A worker that is asked in another way than before may leave more than once at a time.
        self._leaving: list[Member] = []
        pool.on_removed = self._removed

    def __iter__(self) -> Iterator[Member]:
        """All that are in the pool, also those that leave."""
        yield from self._members.values()
        yield from self._leaving

    # -- what sources say

    def want(self, source: Source, workers: Iterable[WorkerSettings]) -> bool:
        """All that the source names now; whether that is something else than before. Raises
        NamedTwice, and has changed nothing then."""
        named = by_name(workers)
        if named == self._named[source]:
            return False
        self._named[source] = named
        self._follow()
        return True

    # -- what an operator says

    def member(self, name: str) -> Member:
        """Raises NotFound, also where it is leaving."""
        member = self._members.get(name)
        if member is None:
            raise NotFound(f"There is no worker '{name}' in the pool.", code="worker_not_found")
        return member

    def add(self, worker: WorkerSettings) -> Member:
        """One that is leaving stays. Raises Conflict where it is there already."""
        if worker.name in self._members:
            raise Conflict(
                f"The worker '{worker.name}' is in the pool already.", code="worker_exists"
            )
        self._named[Source.ADMIN][worker.name] = worker
        self._follow()
        return self._members[worker.name]

    def drain(self, name: str) -> Member:
        """It gets nothing new, until `resume`. Raises NotFound."""
        member = self.member(name)
        if not member.held:
            member.held = True
            self._pool.drain(member.endpoint)
            self._tell("drained", member, Source.ADMIN)
        return member

    def resume(self, name: str) -> Member:
        """Raises NotFound."""
        member = self.member(name)
        if member.held:
            member.held = False
            self._pool.resume(member.endpoint)
            self._tell("resumed", member, Source.ADMIN)
        return member

    def remove(self, name: str) -> Member:
        """Raises NotFound, and Conflict where a file or DNS names it."""
        member = self.member(name)
        for source in STANDING:
            if name in self._named[source]:
                raise Conflict(
                    f"The worker '{name}' is named by the gateway's {source}, which has to cease "
                    "to name it. It can be drained here.",
                    code="worker_is_named",
                )
        for source in (Source.SETTINGS, Source.ADMIN):
            self._named[source].pop(name, None)
        self._follow()
        return member

    # -- making it so

    def _follow(self) -> None:
        target: dict[str, tuple[Source, WorkerSettings]] = {}
        for source in Source:
            for name, worker in self._named[source].items():
                target.setdefault(name, (source, worker))
        for name in [name for name in self._members if name not in target]:
            self._leave(self._members.pop(name))
        for name, (source, worker) in target.items():
            member = self._members.get(name)
            if member is None:
                self._join(source, worker)
            else:
                member.source = source
                self._change(member, worker)

    def _join(self, source: Source, worker: WorkerSettings) -> None:
        member = self._returning(worker)
        if member is None:
            member = Member(self._pool.add(worker), source)
            change = "added"
        else:
            self._leaving.remove(member)
            member.source, member.leaving = source, False
            member.endpoint.reconfigure(worker)
            self._pool.resume(member.endpoint)
            change = "resumed"
        self._members[worker.name] = member
        self._tell(change, member, source)

    def _returning(self, worker: WorkerSettings) -> Member | None:
        """One that is leaving and need not."""
        for member in self._leaving:
            if member.name == worker.name and member.endpoint.settings.is_asked_as(worker):
                return member
        return None

    def _change(self, member: Member, worker: WorkerSettings) -> None:
        """What is asked in another way has to be checked as a new one is."""
        if member.endpoint.settings == worker:
            return
        if member.endpoint.settings.is_asked_as(worker):
            member.endpoint.reconfigure(worker)
            self._pool.changed()
            self._tell("changed", member, member.source)
            return
        held = member.held
        self._tell("replaced", member, member.source)
        del self._members[member.name]
        self._leave(member)
        self._join(member.source, worker)
        if held:
            self.drain(member.name)

    def _leave(self, member: Member) -> None:
        member.leaving, member.held = True, False
        self._leaving.append(member)
        self._tell("leaving", member, member.source)
        self._pool.remove(member.endpoint)

    def _removed(self, endpoint: Endpoint) -> None:
        """Called by the pool once its last request has ended."""
        member = next(each for each in self._leaving if each.endpoint is endpoint)
        self._leaving.remove(member)
        self._tell("removed", member, member.source)
        if not self._is_there(endpoint.name):
            for forget in self._forget:
                forget(endpoint)
        loop = asyncio.get_running_loop()
        loop.call_later(SHOWN_SECONDS, self._forget_series, endpoint.name)

    def _forget_series(self, name: str) -> None:
        if not self._is_there(name):
            self._metrics.forget_worker(name)

    def _is_there(self, name: str) -> bool:
        return any(member.name == name for member in self)

    def _tell(self, change: str, member: Member, source: Source) -> None:
        """`source`: who made the change."""
        endpoint = member.endpoint
        now = self._members.get(endpoint.name)
        self._metrics.worker_changed(change, source)
        self._metrics.worker_draining(endpoint.name, draining=now is None or now.held)
        log.info(
            "pool_changed",
            change=change,
            worker=endpoint.name,
            source=source,
            in_flight=endpoint.in_flight,
        )
