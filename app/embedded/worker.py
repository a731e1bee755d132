"""PLACEHOLDER by the lead: the interface that app/cli/dev.py uses. The embedded-worker helper replaces this file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class EmbeddedWorker:
    url: str
    model_name: str

    def settings(self) -> WorkerSettings:
        return WorkerSettings.model_validate({"url": self.url})


@asynccontextmanager
async def embedded_worker(home: Path, model: Path | None) -> AsyncIterator[EmbeddedWorker]:
    yield EmbeddedWorker("http://127.0.0.1:9901", "nothing")
