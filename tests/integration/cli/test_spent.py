"""What has been spent, as an operator sees it."""

import asyncio
import json
import time
import uuid

from app.store.database import create_engine
from tests.integration.cli.conftest import Command
from tests.support.audit_events import EventLog

MONTH_SECONDS = 32 * 86_400


async def charge(database_url: str, key_id: str, tokens: int, settled_at: float) -> None:
    engine = create_engine(database_url)
    try:
        await EventLog(engine, uuid.uuid4().hex).request(
            f"req_{tokens}_{settled_at}",
            minutes_ago=0,
            key_id=key_id,
            tenant="acme",
            of_outcome={"charged_tokens": tokens, "settled_at": settled_at},
        )
    finally:
        await engine.dispose()


def test_a_key_and_its_tenant_show_what_they_spent(command: Command, database_url: str) -> None:
    create = ("keys", "create", "--name", "n", "--tenant", "acme", "--json")
    one, other = (json.loads(command(*create).stdout)["id"] for _ in range(2))
    now = time.time()
    for key_id, tokens, at in (
        (one, 300, now - 1),
        (one, 5_000, now - MONTH_SECONDS),
        (other, 20, now - 1),
    ):
        asyncio.run(charge(database_url, key_id, tokens, at))
    command("tenants", "set", "acme", "--tokens-per-day", "1000")

    shown = command("keys", "show", one).stdout
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("tokens today")] == [
        "300"
    ]
    spent = json.loads(command("keys", "show", one, "--json").stdout)["spent"]
    assert spent == {"tokens_today": 300, "tokens_this_month": 300}
    spent = json.loads(command("tenants", "show", "acme", "--json").stdout)["spent"]
    assert spent == {"tokens_today": 320, "tokens_this_month": 320}
