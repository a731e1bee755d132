"""What the settings say of the workers: GATEWAY_WORKERS, and its `_FILE` and `_DNS`."""

import asyncio

from app.settings import Settings, SettingsError
from app.settings.worker import NamedTwice, by_name
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.membership.changes import Membership, Source
from app.upstream.membership.dns import WorkersDNS
from app.upstream.membership.file import WorkersFile, WorkersRefused, parse_workers, read_file


def check_workers(settings: Settings) -> None:
    """Raises SettingsError where no source is named, or one of them cannot be used."""
    if not settings.names_workers:
        raise SettingsError(
            'GATEWAY_WORKERS: is not set; for example ["http://10.0.0.5:8000"]. '
            "GATEWAY_WORKERS_FILE and GATEWAY_WORKERS_DNS are for workers that come and go"
        )
    named = {"GATEWAY_WORKERS": settings.workers, "GATEWAY_WORKERS_DNS": settings.workers_dns}
    for variable, workers in named.items():
        try:
            by_name(workers)
        except NamedTwice as error:
            raise SettingsError(f"{variable}: {error}") from None
    if settings.workers_file is None:
        return
    try:
        parse_workers(read_file(settings.workers_file))
    except WorkersRefused as error:
        raise SettingsError(f"GATEWAY_WORKERS_FILE: {error}") from None


class WorkerSources:
    def __init__(self, settings: Settings, membership: Membership, metrics: PoolMetrics) -> None:
        self._workers = settings.workers
        self._membership = membership
        self._file = self._dns = None
        if settings.workers_file is not None:
            self._file = WorkersFile(
                settings.workers_file,
                membership,
                metrics,
                reload_seconds=settings.workers_reload_seconds,
            )
        if settings.workers_dns:
            self._dns = WorkersDNS(
                settings.workers_dns, membership, metrics, seconds=settings.workers_dns_seconds
            )

    async def take(self) -> None:
        """What they say at the start. Without an answer of DNS the gateway starts all the same: its
        workers may come later. Raises NamedTwice and WorkersRefused, of which `check_workers` has
        told before."""
        self._membership.want(Source.SETTINGS, self._workers)
        if self._file is not None:
            self._file.take()
        if self._dns is not None:
            await self._dns.look()

    async def run(self) -> None:
        """Follows what they say, for ever; returns where nothing can change."""
        async with asyncio.TaskGroup() as tasks:
            if self._file is not None:
                tasks.create_task(self._file.run())
            if self._dns is not None:
                tasks.create_task(self._dns.run())
