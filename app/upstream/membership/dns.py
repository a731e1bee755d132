"""Workers that are the addresses behind names, as those of headless Kubernetes services."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

import structlog

from app.settings.worker import WorkerSettings
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.membership.changes import Membership, Source

# Of a name that is there: it has no address of that family.
NO_ADDRESS = (socket.EAI_NONAME, socket.EAI_NODATA)

# `resolve(name, family)`: its addresses as text. Raises socket.gaierror.
Resolve = Callable[[str, socket.AddressFamily], Awaitable[Sequence[str]]]

log = structlog.get_logger()


async def resolve(name: str, family: socket.AddressFamily) -> Sequence[str]:
    """By the system's resolver, in a thread of the loop's; it has a time limit of its own, within
    which nobody can stop it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class NoAnswer(Exception):
    """Whoever is behind the name, it is not known now."""


async def addresses_of(name: str, resolve: Resolve = resolve) -> frozenset[str]:
    """Those of IPv4, or of IPv6 where it has none: in a network with both, a worker has one of
    each, and is one worker. At least one; raises NoAnswer."""
    try:
        found = await resolve(name, socket.AF_INET)
    except socket.gaierror as error:
        # What is not known for now may be there: IPv6 instead would be taken for other workers.
        if error.errno not in NO_ADDRESS:
            raise NoAnswer(error.strerror) from None
        found = ()
    try:
        found = found or await resolve(name, socket.AF_INET6)
    except socket.gaierror as error:
        raise NoAnswer(error.strerror) from None
    if not found:
        raise NoAnswer("no address")
    return frozenset(found)


def worker_at(template: WorkerSettings, address: str) -> WorkerSettings:
    """The template's, at this address."""
    parts = urlsplit(str(template.url))
    credentials, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ip_address(address).version == 6 else address
    port = "" if template.url.port is None else f":{template.url.port}"
    netloc = f"{credentials}{at}{host}{port}"
    values = template.model_dump() | {"url": urlunsplit(parts._replace(netloc=netloc))}
    return WorkerSettings.model_validate(values)


class _Name:
    """One name, and the workers behind it as it was last known."""

    def __init__(self, template: WorkerSettings, metrics: PoolMetrics, resolve: Resolve) -> None:
        self._template = template
        self._metrics = metrics
        self._resolve = resolve
        self._told: str | None = None  # why there was no answer
        self.host = template.url.host or ""
        self.workers: Sequence[WorkerSettings] = ()

    async def look(self) -> None:
        """An answer that fails or is empty changes nothing: a name server that is restarted knows
        nobody for a while, and all workers would be drained."""
        try:
            addresses = await addresses_of(self.host, self._resolve)
        except NoAnswer as error:
            self._metrics.workers_read(Source.DNS, "refused")
            if self._told != str(error):
                self._told = str(error)
                log.warning("workers_dns_unknown", name=self.host, reason=str(error))
            return
        self._told = None
        self.workers = [worker_at(self._template, address) for address in sorted(addresses)]


class WorkersDNS:
    """Asks for each name every `seconds`; of one that does not answer, the workers stay as they
    are. An address behind two names is asked as the first of them says."""

    def __init__(
        self,
        templates: Iterable[WorkerSettings],
        membership: Membership,
        metrics: PoolMetrics,
        *,
        seconds: float,
        resolve: Resolve = resolve,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._names = [_Name(template, metrics, resolve) for template in templates]
        self._membership = membership
        self._metrics = metrics
        self._seconds = seconds
        self._sleep = sleep

    async def look(self) -> None:
        # Together: the resolver may take its time over a name that nobody answers for.
        async with asyncio.TaskGroup() as tasks:
            for name in self._names:
                tasks.create_task(name.look())
        workers: dict[str, WorkerSettings] = {}
        for name in self._names:
            for worker in name.workers:
                workers.setdefault(worker.name, worker)
        if self._membership.want(Source.DNS, workers.values()):
            self._metrics.workers_read(Source.DNS, "taken")
            hosts = [name.host for name in self._names]
            log.info("workers_dns_taken", names=hosts, workers=len(workers))

    async def run(self) -> None:
        while True:
            await self._sleep(self._seconds)
            await self.look()
