"""Messages that were changed, deleted, replaced."""

import orjson
import pytest

from app.audit.chain import GENESIS, link
from app.audit.content.nodes import ROOT
from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.integration.audit.replica import ADDRESSES
from tests.integration.audit.tampering.log import (
    Log,
)


async def test_a_changed_message_is_found(log: Log) -> None:
    await log.sql(
        "UPDATE audit_messages SET encoding = 0, body = '{}' "
        "WHERE address = decode(:address, 'hex')",
        address=log.addresses["answer"],
    )

    [finding] = (await log.verified()).findings.in_order()

    assert finding.problem is Problem.MESSAGE_CHANGED
    assert log.addresses["answer"] in finding.what


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_messages SET salt = sha256(salt)",
        "UPDATE audit_messages SET parent = sha256(parent)",
        "UPDATE audit_messages SET encoding = 9",
        "UPDATE audit_messages SET encoding = 1, body = ''",
    ],
)
async def test_whatever_of_a_message_is_changed_is_found(log: Log, change: str) -> None:
    await log.sql(
        change + " WHERE address = decode(:address, 'hex')", address=log.addresses["answer"]
    )

    findings = (await log.verified()).findings.in_order()

    assert Problem.MESSAGE_CHANGED in {each.problem for each in findings}


async def test_a_message_of_another_tenant_is_missed(log: Log) -> None:
    await log.sql(
        "UPDATE audit_messages SET tenant = 'another' WHERE address = decode(:address, 'hex')",
        address=log.addresses["answer"],
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.request_id) == (Problem.MESSAGE_MISSING, "req_1")


async def test_a_deleted_message_is_missed_by_the_request_that_refers_to_it(log: Log) -> None:
    await log.sql(
        "DELETE FROM audit_messages WHERE address = decode(:address, 'hex')",
        address=log.addresses["answer"],
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence, finding.request_id) == (
        Problem.MESSAGE_MISSING,
        5,
        "req_1",
    )
    assert log.addresses["answer"] in finding.what


async def test_a_message_that_another_took_the_place_of_is_missed(log: Log) -> None:
    """With an address that is right, as only we could make it."""
    other = ADDRESSES.node("acme", ROOT, b'{"content":"harmless","role":"user"}')
    await log.sql(
        "UPDATE audit_messages SET address = :new, parent = :parent, salt = :salt, encoding = 0, "
        "body = :body WHERE address = decode(:address, 'hex')",
        address=log.addresses["answer"],
        new=other.address,
        parent=other.parent,
        salt=other.salt,
        body=other.body,
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.request_id) == (Problem.MESSAGE_MISSING, "req_1")


async def test_a_message_erased_behind_the_logs_back_is_found(log: Log) -> None:
    await log.sql(
        "UPDATE audit_messages SET encoding = 2, salt = '', body = '' "
        "WHERE address = decode(:address, 'hex')",
        address=log.addresses["answer"],
    )

    [finding] = (await log.verified()).findings.in_order()

    assert finding.problem is Problem.MESSAGE_ERASED


async def test_an_erasure_that_nobody_has_signed_excuses_nothing(log: Log) -> None:
    payload = orjson.dumps({"tenant": "acme", "addresses": [log.addresses["answer"]]})
    made_up = "f" * 32
    head = link(GENESIS, FrameKind.ERASURE, 1_700_000_000_000_000, payload)
    await log.sql(
        "DELETE FROM audit_messages WHERE address = decode(:address, 'hex')",
        "SELECT audit_make_partitions('2023-11-14', '2023-11-14')",
        "INSERT INTO audit_events (recorded_at, writer, sequence, kind, hash, payload) "
        "VALUES ('2023-11-14 22:13:20Z', :made_up, 1, 8, :hash, :payload)",
        made_up=made_up,
        hash=head.hash,
        payload=payload,
        address=log.addresses["answer"],
    )

    finding = await log.first_finding()

    assert (finding.problem, finding.request_id) == (Problem.MESSAGE_MISSING, "req_1")
