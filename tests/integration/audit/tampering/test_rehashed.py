"""An editor who knows how the chain is made makes its hashes anew: no key signs that."""

import time

import orjson
import pytest

from app.audit.chain import GENESIS, ChainHead
from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.verify.findings import Problem
from tests.integration.audit.tampering.log import (
    CHECKPOINT,
    CLOSING,
    STRANGER,
    Log,
    cancelled,
    rehash,
)


@pytest.mark.parametrize("second_place", [True, False])
async def test_hashes_made_anew_contradict_the_checkpoint(log: Log, second_place: bool) -> None:
    await rehash(log, cancelled)
    await log.sql(
        "UPDATE audit_events SET outcome = 'cancelled' WHERE writer = :writer AND sequence = 3"
    )

    finding = await log.first_finding(second_place=second_place)

    # Of those that the checkpoint covers, and the register nor another one does, the first one.
    assert finding.problem is Problem.REWRITTEN
    assert (finding.sequence, finding.request_id) == (1, None)
    assert "event 5" in finding.what


async def test_an_edit_behind_a_checkpoint_is_narrowed_down_to_what_follows_it(log: Log) -> None:
    async def edited(sequence: int, payload: bytes) -> bytes:
        return payload.replace(b"completed", b"cancelled") if sequence == 8 else payload

    await rehash(log, edited)
    await log.sql("UPDATE audit_events SET outcome = 'cancelled' WHERE sequence = 8")

    finding = await log.first_finding()

    assert (finding.problem, finding.sequence) == (Problem.REWRITTEN, CHECKPOINT)
    assert f"from {CHECKPOINT} on" in finding.what


async def test_checkpoints_made_anew_with_another_key_are_found(log: Log) -> None:
    heads: dict[int, ChainHead] = {0: GENESIS}

    async def forged(sequence: int, payload: bytes) -> bytes:
        if sequence in (CHECKPOINT, CLOSING):
            return make_checkpoint(
                STRANGER, log.writer, heads.get(sequence - 1, heads[0]), at=time.time(),
                previous=None, register=None, closed=sequence == CLOSING,
            ).payload  # fmt: skip
        return await cancelled(sequence, payload)

    await rehash(log, forged)

    report = await log.verified(second_place=False)
    forgeries = [each for each in report.findings.in_order() if each.problem is Problem.FORGED]
    assert [each.sequence for each in forgeries] == [CHECKPOINT, CLOSING]
    assert STRANGER.public_key in forgeries[0].what
    assert (await log.first_finding()).problem is not None


async def test_a_checkpoint_whose_statement_was_changed_is_found(log: Log) -> None:
    async def forged(sequence: int, payload: bytes) -> bytes:
        if sequence != CHECKPOINT:
            return payload
        return orjson.dumps(orjson.loads(payload) | {"closed": True}, option=orjson.OPT_SORT_KEYS)

    await rehash(log, forged)

    finding = await log.first_finding()
    assert (finding.problem, finding.sequence) == (Problem.FORGED, CHECKPOINT)
    assert "has not signed" in finding.what
