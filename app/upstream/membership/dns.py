"""Workers that are the addresses behind one name, as those of a headless Kubernetes service."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

import structlog

from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.membership.changes import Membership, Source
from app.worker_settings import WorkerSettings

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


class WorkersDNS:
    """Asks every `seconds`. An answer that fails or is empty changes nothing: a name server that is
    restarted knows nobody for a while, and all workers would be drained."""

    def __init__(
        self,
        template: WorkerSettings,
        membership: Membership,
        metrics: PoolMetrics,
        *,
        seconds: float,
        resolve: Resolve = resolve,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._template = template
        self._name = template.url.host or ""
        self._membership = membership
        self._metrics = metrics
        self._seconds = seconds
        self._resolve = resolve
        self._sleep = sleep
        self._told: str | None = None  # why there was no answer

    async def look(self) -> None:
        try:
            addresses = await addresses_of(self._name, self._resolve)
        except NoAnswer as error:
            self._metrics.workers_read(Source.DNS, "refused")
            if self._told != str(error):
                self._told = str(error)
                log.warning("workers_dns_unknown", name=self._name, reason=str(error))
            return
        self._told = None
        workers = [worker_at(self._template, address) for address in sorted(addresses)]
        if self._membership.want(Source.DNS, workers):
            self._metrics.workers_read(Source.DNS, "taken")
            log.info("workers_dns_taken", name=self._name, workers=len(workers))

    async def run(self) -> None:
        while True:
            await self._sleep(self._seconds)
            await self.look()
