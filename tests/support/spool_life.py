"""A gateway's life as its spool sees it, to be ended at any point; and what must be true after.

It tells what it is about to append, and what it was told is durable.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import FrameKind, encode
from app.audit.spool.payloads import encode_intent, encode_outcome
from app.audit.spool.recovery import crashed_outcome
from app.audit.spool.writer import SpoolWriter
from app.protocol.events import Usage
from tests.support.spooled import Spooled

CONCURRENT = 6
REQUESTS_EACH = 8

ASKED, ACKNOWLEDGED = "asked", "acknowledged"
INTENT, OUTCOME = "intent", "outcome"

Tell = Callable[[str, str, str], object]  # ASKED or ACKNOWLEDGED, INTENT or OUTCOME, request id


@dataclass(slots=True)
class Told:
    """What it said before it ended. Kind and request id of each."""

    asked: set[tuple[str, str]] = field(default_factory=set)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)

    def hear(self, word: str, kind: str, request_id: str) -> None:
        (self.asked if word == ASKED else self.acknowledged).add((kind, request_id))


def intent_of(request_id: str) -> AuditIntent:
    chance = random.Random(request_id)
    return AuditIntent(
        request_id,
        chance.random() * 1e9,
        "/v1/chat/completions",
        model=chance.choice(["qwythos", "\ud800", "\0", None]),
        user_agent="x" * chance.randrange(400),
        parameters={"seed": chance.getrandbits(64)},
    )


def outcome_of(request_id: str) -> AuditOutcome:
    chance = random.Random(request_id)
    return AuditOutcome(
        request_id,
        chance.choice([Outcome.COMPLETED, Outcome.FAILED, Outcome.CANCELLED]),
        200,
        usage=Usage(chance.randrange(1000), chance.randrange(1000)),
        findings={"filter": ["y" * chance.randrange(400)]},
    )


def intent_frame(request_id: str) -> bytes:
    return encode(FrameKind.INTENT, encode_intent(intent_of(request_id)))


def outcome_frame(request_id: str) -> bytes:
    return encode(FrameKind.OUTCOME, encode_outcome(outcome_of(request_id)))


async def live(writer: SpoolWriter, seed: int, tell: Tell) -> None:
    async def client(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for request in range(REQUESTS_EACH):
            request_id = f"{seed}-{number}-{request}"
            tell(ASKED, INTENT, request_id)
            await writer.append(intent_frame(request_id))
            tell(ACKNOWLEDGED, INTENT, request_id)
            if chance.random() < 0.1:
                return  # it never ends
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
            tell(ASKED, OUTCOME, request_id)
            await writer.append(outcome_frame(request_id), essential=True)
            tell(ACKNOWLEDGED, OUTCOME, request_id)

    await asyncio.gather(*map(client, range(CONCURRENT)))


def check_recovered(spooled: Spooled, told: Told) -> None:
    """Nothing that was acknowledged is missing, nothing is invented, each request has one end."""
    kept = {(INTENT, request_id) for request_id in spooled.intents}
    assert {each for each in told.acknowledged if each[0] == INTENT} <= kept <= told.asked
    assert spooled.outcomes.keys() == spooled.intents.keys()
    for request_id, intents in spooled.intents.items():
        assert intents == [intent_of(request_id)]
    for request_id, outcomes in spooled.outcomes.items():
        if (OUTCOME, request_id) in told.acknowledged:
            assert outcomes == [outcome_of(request_id)]
        elif (OUTCOME, request_id) in told.asked:
            assert outcomes in ([outcome_of(request_id)], [crashed_outcome(request_id)])
        else:
            assert outcomes == [crashed_outcome(request_id)]
