"""The register of writers."""

from hashlib import sha256

import orjson
import pytest

from app.audit.verify.findings import Problem
from tests.integration.audit.replica import replica
from tests.integration.audit.tampering.log import (
    Log,
)


async def test_a_chain_without_a_row_in_the_register_is_found(log: Log) -> None:
    await log.sql("DELETE FROM audit_register WHERE writer = :writer")

    report = await log.verified()

    problems = {(each.writer, each.problem) for each in report.findings.in_order()}
    assert {(log.writer, Problem.UNREGISTERED), (None, Problem.REGISTER)} <= problems


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE audit_register SET entry = '{}'",
        "UPDATE audit_register SET entry = entry || ' '",
        "UPDATE audit_register SET entry = convert_to(replace(convert_from(entry, 'UTF8'), "
        "'number', 'numbers'), 'UTF8'), hash = sha256(entry)",
        "UPDATE audit_register SET hash = sha256(hash)",
        "UPDATE audit_register SET writer = repeat('f', 32)",
        "UPDATE audit_register SET number = 5",
        "UPDATE audit_register SET registered_at = registered_at - interval '1 us'",
    ],
)
async def test_a_changed_row_of_the_register_is_found(log: Log, edit: str) -> None:
    await log.sql(edit + " WHERE writer = :writer")

    report = await log.verified(second_place=False)

    assert Problem.REGISTER in {each.problem for each in report.findings.in_order()}


async def test_a_register_whose_end_was_made_anew_contradicts_what_was_signed(log: Log) -> None:
    async with replica(log.root, log.engine) as third:
        await third.shipped()
    entry = {"number": 3, "writer": third.writer, "registration": "00" * 32, "previous": None}
    raw = orjson.dumps(entry)
    await log.sql(
        "UPDATE audit_register SET entry = :entry, hash = :hash WHERE number = 3",
        entry=raw,
        hash=sha256(raw).digest(),
    )

    report = await log.verified(second_place=False)

    texts = [each.what for each in report.findings.in_order() if each.problem is Problem.REGISTER]
    assert any("does not follow" in each for each in texts)
    assert any("not the one that was signed" in each for each in texts)
