"""What the audit log says of a budget."""

import asyncio
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.audit import spent
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spent import charged_tokens
from app.store.database import create_engine
from app.store.transaction import DatabaseUnavailable
from tests.integration.audit.logged import NOW, write

AT = 1_790_000_000.123457
MICROSECOND = 1e-6


async def put(
    engine: AsyncEngine,
    request_id: str,
    charged: int | None,
    settled_at: float | None,
    *,
    key_id: str = "key_a",
    tenant: str = "acme",
) -> None:
    whose: dict[str, Any] = {"key_id": key_id, "tenant": tenant}
    outcome = AuditOutcome(
        request_id, Outcome.COMPLETED, 200, charged_tokens=charged, settled_at=settled_at, **whose
    )
    await write(engine, AuditIntent(request_id, AT, "/v1/models", **whose), outcome)


async def test_what_was_charged_to_a_key_or_a_tenant_is_summed(engine: AsyncEngine) -> None:
    await put(engine, "r1", 10, AT)
    await put(engine, "r2", 2**40, AT + 1)
    await put(engine, "r3", 300, AT, key_id="key_b")
    await put(engine, "r4", 4000, AT, key_id="key_c", tenant="other")
    await put(engine, "r5", None, None)
    day: Any = {"since": AT - 3600, "until": AT + 3600}
    assert await charged_tokens(engine, key_id="key_a", **day) == 10 + 2**40
    assert await charged_tokens(engine, tenant="acme", **day) == 310 + 2**40
    assert await charged_tokens(engine, tenant="nobody", **day) == 0


async def test_nothing_comes_back_by_a_charge_below_zero(engine: AsyncEngine) -> None:
    await put(engine, "r1", 10, AT)
    await put(engine, "made_up", -1_000, AT)
    assert await charged_tokens(engine, key_id="key_a", since=AT, until=AT) == 10
    assert await charged_tokens(engine, tenant="acme", since=AT, until=AT) == 10


async def test_both_bounds_are_included_to_the_microsecond(engine: AsyncEngine) -> None:
    await put(engine, "r1", 1, AT - MICROSECOND)
    await put(engine, "r2", 10, AT)
    await put(engine, "r3", 100, AT + MICROSECOND)
    assert await charged_tokens(engine, key_id="key_a", since=AT, until=AT) == 10
    assert await charged_tokens(engine, key_id="key_a", since=AT, until=math.inf) == 110
    assert await charged_tokens(engine, key_id="key_a", since=0, until=AT) == 11


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.49999952316284, 0.5000005, 0.9999995, 0.3333333])
async def test_a_bound_includes_what_was_settled_at_the_very_same_number(
    engine: AsyncEngine, fraction: float
) -> None:
    at = 1_790_000_000 + fraction
    await put(engine, "r1", 1, at)
    assert await charged_tokens(engine, key_id="key_a", since=at, until=at) == 1


@pytest.mark.parametrize("subject", [{}, {"key_id": "key_a", "tenant": "acme"}])
async def test_exactly_one_subject_is_asked_about(
    engine: AsyncEngine, subject: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="key's id or a tenant"):
        await charged_tokens(engine, since=0, until=1, **subject)


@pytest.mark.parametrize("subject", ["key_id", "tenant"])
async def test_a_sum_is_read_from_the_index_alone(engine: AsyncEngine, subject: str) -> None:
    fill = """
        INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload, key_id,
            tenant, charged_tokens, settled_at)
        SELECT $1, 'w', n, 2, '', '', 'key_' || n % 50, 'tenant_' || n % 50, n,
            CASE WHEN n % 2 = 0 THEN to_timestamp(n) END
        FROM generate_series(1, 20000) AS n
    """
    today = datetime.fromtimestamp(NOW, UTC)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(fill, (today,))
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.exec_driver_sql("VACUUM ANALYZE audit_events")
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(
        connection: object, cursor: object, sql: str, parameters: tuple[object, ...], *rest: object
    ) -> None:
        asked.append((sql, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    await charged_tokens(engine, **{subject: "x"}, since=1, until=2)
    sql, parameters = asked[-1]
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        plan = json.dumps(found.scalar_one())
    partition = f"audit_events_{today:%Y%m%d}"
    index = f"{partition}_{subject}_settled_at_charged_tokens_idx"
    (node,) = [each for each in plan.split("{") if f'"Relation Name": "{partition}"' in each]
    assert '"Node Type": "Index Only Scan"' in node
    assert f'"Index Name": "{index}"' in node


async def test_a_sum_that_takes_too_long_is_given_up_by_the_database(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spent, "STATEMENT_SECONDS", 0.05)
    blocker = create_engine(engine.url.render_as_string(hide_password=False))
    async with asyncio.timeout(60), blocker.begin() as connection:
        await connection.exec_driver_sql("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseUnavailable) as failure:
            await charged_tokens(engine, tenant="acme", since=0, until=1)
    assert "statement timeout" in failure.value.reason
    await blocker.dispose()


async def test_a_database_that_is_away_is_said_to_be(unused_port: int) -> None:
    engine = create_engine(f"postgresql://u:p@127.0.0.1:{unused_port}/x")
    with pytest.raises(DatabaseUnavailable):
        await charged_tokens(engine, tenant="acme", since=0, until=1)
    await engine.dispose()
