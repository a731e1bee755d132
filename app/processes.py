"""Several server processes on one socket, for as many cores: `gateway serve --processes N`."""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

import structlog
from prometheus_client.multiprocess import mark_process_dead

# A process that ends this soon has not started: others like it would not either.
START_SECONDS = 5.0
CHECK_SECONDS = 1.0

log = structlog.get_logger()


class Processes:
    """Starts `count` processes, restarts those that die, and drains them all on a signal."""

    def __init__(self, serve: Callable[..., None], args: tuple[object, ...], count: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._serve = serve
        self._args = args
        self._count = count
        self._running: dict[BaseProcess, float] = {}  # since when
        self._signals: list[int] = []
        self._passed_on = 0
        self._failed = False

    def run(self) -> int:
        """Returns the exit code, once all have ended."""
        with _metrics_directory(), self._signals_caught():
            for _ in range(self._count):
                self._start()
            while self._running:
                self._pass_on_signals()
                wait([process.sentinel for process in self._running], CHECK_SECONDS)
                self._replace_the_dead()
        return 1 if self._failed else 0

    @property
    def _ending(self) -> bool:
        return self._failed or bool(self._signals)

    def _start(self) -> None:
        process = self._context.Process(target=self._serve, args=self._args)
        process.start()
        self._running[process] = time.monotonic()

    def _replace_the_dead(self) -> None:
        for process in [process for process in self._running if not process.is_alive()]:
            since = self._running.pop(process)
            if process.pid is not None:
                mark_process_dead(process.pid)  # type: ignore[no-untyped-call]  # the library's
            if self._ending:
                continue
            log.error("process_died", pid=process.pid, exit_code=process.exitcode)
            failed = process.exitcode is not None and process.exitcode > 0  # below 0: killed
            if failed and time.monotonic() - since < START_SECONDS:
                self._failed = True
                self._signal_all(signal.SIGTERM)
            else:
                self._start()

    def _pass_on_signals(self) -> None:
        """The first one drains the processes, a second one ends them."""
        while len(self._signals) > self._passed_on:
            self._signal_all(self._signals[self._passed_on])
            self._passed_on += 1

    def _signal_all(self, number: int) -> None:
        for process in self._running:
            if process.pid is not None and process.is_alive():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, number)

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _metrics_directory() -> Iterator[None]:
    """Where the processes count together; the library reads the variable when it is imported."""
    with tempfile.TemporaryDirectory(prefix="gateway-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory  # noqa: TID251 - how the library takes it
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]  # noqa: TID251 - as above
