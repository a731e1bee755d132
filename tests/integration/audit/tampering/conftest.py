from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.audit.replica import TABLES, replica, tamper
from tests.integration.audit.tampering.log import REQUESTS, Log


@pytest.fixture
async def log(engine: AsyncEngine, tmp_path: Path) -> Log:
    root = tmp_path / "audit"
    await tamper(engine, f"TRUNCATE {TABLES}")
    async with replica(root, engine) as process:
        for number in range(REQUESTS):
            await process.request(f"req_{number}", said=f"hello {number}")
            if number == 1:
                await process.checkpoint()
        await process.shipped()
        async with replica(root, engine) as other:
            await other.request("req_other")
    return Log(engine, root, process.writer, other.writer, process.addresses["req_1"])
