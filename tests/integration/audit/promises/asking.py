"""What a gateway says of itself, and what it has written down."""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.store.tables import audit_records
from tests.support.conditions import eventually_found
from tests.support.gateway import Response, RunningGateway

WITHIN_SECONDS = 60.0  # only spent on failure
CRASHED = ("crashed", 500, "gateway_crashed")
COMPLETED = ("completed", 200, None)

End = tuple[str | None, int | None, str | None]  # outcome, status, code


async def readiness(gateway: RunningGateway) -> tuple[int, dict[str, bool]]:
    response = await gateway.request("GET", "/readyz")
    checks: dict[str, bool] = response.json["checks"]
    return response.status, checks


async def until_ready(gateway: RunningGateway) -> None:
    """Asks nothing but that: a gateway that is not ready gets nothing else to do."""

    async def ready() -> bool | None:
        return (await readiness(gateway))[0] == 200 or None

    await eventually_found(ready, WITHIN_SECONDS, "it is ready again")


def check_refused(response: Response) -> None:
    """For want of an audit log, in all that a client needs to know."""
    assert response.status == 503
    assert response.error["code"] == "audit_unavailable"
    assert float(response.headers["retry-after"]) > 0
    assert response.request_id.startswith("req_")


async def check_not_ready(gateway: RunningGateway) -> None:
    """For want of an audit log, and of nothing else."""
    status, checks = await readiness(gateway)
    assert status == 503
    assert [name for name, holds in checks.items() if not holds] == ["audit"]


async def counted(gateway: RunningGateway, metric: str) -> float:
    text = (await gateway.request("GET", "/metrics")).body.decode()
    (line,) = (line for line in text.splitlines() if line.startswith(f"{metric} "))
    return float(line.rpartition(" ")[2])


async def ends(engine: AsyncEngine) -> dict[str, End]:
    """Of every request that has a record. None throughout for one that has only begun."""
    table = audit_records.c
    columns = (table.request_id, table.outcome, table.status, table.error_code)
    async with engine.connect() as connection:
        rows = await connection.execute(select(*columns))
        return {row[0]: (row[1], row[2], row[3]) for row in rows}


async def charged(engine: AsyncEngine) -> int:
    """All that was taken from budgets, in tokens."""
    async with engine.connect() as connection:
        total: Any = await connection.scalar(select(func.sum(audit_records.c.charged_tokens)))
        return int(total or 0)


def spools(root: Path) -> list[str]:
    """The directories of processes below the audit directory; its checkpoints stand beside them."""
    return sorted(path.name for path in root.iterdir() if path.is_dir())
