"""A file that lists workers, read again when it changes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
import yaml
from pydantic import TypeAdapter, ValidationError

from app.settings.worker import NamedTwice, Worker, WorkerSettings, by_name
from app.telemetry.pool_metrics import PoolMetrics
from app.upstream.membership.changes import Membership, Source

MAX_FILE_BYTES = 1024 * 1024  # thousands of workers

_WORKERS: TypeAdapter[list[WorkerSettings]] = TypeAdapter(list[Worker])

log = structlog.get_logger()


class WorkersRefused(Exception):
    """The list as a whole; the reason is one line without anything secret."""


def read_file(path: Path) -> bytes:
    """Raises WorkersRefused."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise WorkersRefused(f"cannot read {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise WorkersRefused(f"{path}: has more than {MAX_FILE_BYTES} bytes")
    return content


def parse_workers(content: bytes) -> Mapping[str, WorkerSettings]:
    """By their names. Raises WorkersRefused, also where there is none: what was cut off while it
    was written must not take all workers away."""
    try:
        workers = _WORKERS.validate_python(_document(content))
        if not workers:
            raise WorkersRefused("names no worker")
        return by_name(workers)
    except ValidationError as error:
        raise WorkersRefused(_one_line(error)) from None
    except NamedTwice as error:
        raise WorkersRefused(str(error)) from None


class WorkersFile:
    """What it names is in the pool within two looks of `reload_seconds` each: a file that is still
    being written changes between two looks."""

    def __init__(
        self,
        path: Path,
        membership: Membership,
        metrics: PoolMetrics,
        *,
        reload_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._membership = membership
        self._metrics = metrics
        self._reload_seconds = reload_seconds
        self._sleep = sleep
        self._used = b""  # taken, or refused and told
        self._seen = b""  # at the last look
        self._unreadable: str | None = None  # the reason that was told

    def take(self) -> None:
        """At the start. Raises WorkersRefused."""
        self._seen = self._used = read_file(self._path)
        self._membership.want(Source.FILE, parse_workers(self._used).values())

    async def run(self) -> None:
        """For ever. A mounted volume may change a file and keep its times: the content is what is
        compared."""
        while True:
            await self._sleep(self._reload_seconds)
            await self._look()

    async def _look(self) -> None:
        try:
            content = await asyncio.to_thread(read_file, self._path)
        except WorkersRefused as error:
            if self._unreadable != str(error):
                self._unreadable = str(error)
                self._refused(error)
            return
        self._unreadable = None
        settled, self._seen = content == self._seen, content
        if content == self._used or not settled:
            return
        self._used = content
        try:
            workers = await asyncio.to_thread(parse_workers, content)
        except WorkersRefused as error:
            self._refused(error)
            return
        if self._membership.want(Source.FILE, workers.values()):
            self._metrics.workers_read(Source.FILE, "taken")
            log.info("workers_file_taken", workers=len(workers))

    def _refused(self, error: WorkersRefused) -> None:
        self._metrics.workers_read(Source.FILE, "refused")
        log.error("workers_file_refused", reason=str(error))


def _document(content: bytes) -> object:
    """JSON, or else YAML, which reads some JSON in another way. Raises WorkersRefused."""
    try:
        return json.loads(content)
    except ValueError:
        pass
    except RecursionError:
        raise WorkersRefused("is nested too deeply") from None
    try:
        return yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        # Not the library's own text: it quotes the lines around, and they may hold a key.
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise WorkersRefused(f"is neither JSON nor YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, ValueError):
        raise WorkersRefused("is neither JSON nor YAML") from None
    except RecursionError:
        raise WorkersRefused("is nested too deeply") from None


def _one_line(error: ValidationError) -> str:
    """The first error, without what was given: it may be a key."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "list_type":
        return 'must be a list of workers, for example ["http://10.0.0.5:8000"]'
    where = "".join(f"[{part}]" for part in first["loc"])
    reason = " ".join(str(first["msg"]).removeprefix("Value error, ").split())
    if first["type"] == "extra_forbidden":
        reason = "is not a setting of a worker"
    return f"{where}: {reason[0].lower()}{reason[1:]}"
