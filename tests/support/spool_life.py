"""A gateway's life as its spool sees it, to be ended at any point; and what must be true after.

It tells what it is about to append, and what it was told is durable.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from app.audit.checkpoints.checkpoint import make_checkpoint, parse_checkpoint
from app.audit.checkpoints.keeper import closing_frames
from app.audit.checkpoints.signing import derived_signing_keys
from app.audit.content.answers import answers_of
from app.audit.content.nodes import TenantAddresses
from app.audit.content.redaction import Redaction
from app.audit.records import AuditIntent, AuditOutcome, Outcome
from app.audit.spool.frames import Frame, FrameKind
from app.audit.spool.payloads import (
    BodyPayload,
    ChunkPayload,
    encode_body,
    encode_chunk,
    encode_intent,
    encode_outcome,
)
from app.audit.spool.recovery import crashed_outcome
from app.audit.spool.writer import SpoolWriter
from app.protocol.events import Usage
from tests.support.spooled import Spooled

CONCURRENT = 6
REQUESTS_EACH = 8
WRITER = "0123456789abcdef" * 2
PROMPT = "ab" * 32
TENANT = "acme"

# Of a kind that nobody knows, for a segment of its own.
LARGE = Frame(99, b"." * 9000)

ASKED, ACKNOWLEDGED = "asked", "acknowledged"
INTENT, CHUNK, OUTCOME, CHAIN = "intent", "chunk", "outcome", "chain"

keys = derived_signing_keys(b"pepper")
answer_of = answers_of(TenantAddresses(b"pepper"), Redaction())
closing = closing_frames(keys, lambda checkpoint: None)

# ASKED or ACKNOWLEDGED; INTENT, CHUNK or OUTCOME; request id, of a chunk with its number. Or
# ACKNOWLEDGED, CHAIN and the head of the chain.
Tell = Callable[[str, str, str], object]


@dataclass(slots=True)
class Told:
    """What it said before it ended. Kind and request id of each."""

    asked: set[tuple[str, str]] = field(default_factory=set)
    acknowledged: set[tuple[str, str]] = field(default_factory=set)

    def hear(self, word: str, kind: str, request_id: str) -> None:
        (self.asked if word == ASKED else self.acknowledged).add((kind, request_id))

    def chunks(self, words: set[tuple[str, str]], request_id: str) -> int:
        """How many of that request there are in those words."""
        return sum(kind == CHUNK and word.rsplit(":", 1)[0] == request_id for kind, word in words)


def intent_of(request_id: str) -> AuditIntent:
    chance = random.Random(request_id)
    return AuditIntent(
        request_id,
        chance.random() * 1e9,
        "/v1/chat/completions",
        tenant=TENANT,
        model=chance.choice(["qwythos", "\U0001f600", None]),
        user_agent="x" * chance.randrange(400),
        parameters={"seed": chance.getrandbits(64)},
    )


def content_of(request_id: str) -> dict[str, object]:
    return {"prompt": PROMPT, "messages": len(request_id)}


def outcome_of(request_id: str) -> AuditOutcome:
    chance = random.Random(request_id)
    return AuditOutcome(
        request_id,
        chance.choice([Outcome.COMPLETED, Outcome.FAILED, Outcome.CANCELLED]),
        200,
        usage=Usage(chance.randrange(1000), chance.randrange(1000)),
        findings={"filter": ["y" * chance.randrange(400)]},
    )


def intent_frame(request_id: str) -> Frame:
    return Frame(FrameKind.INTENT, encode_intent(intent_of(request_id)))


def body_frame(request_id: str) -> Frame:
    return Frame(FrameKind.BODY, encode_body(BodyPayload(request_id, content_of(request_id))))


def said(number: int) -> str:
    return f"{number} "


def chunk_frame(request_id: str, number: int) -> Frame:
    chunk = ChunkPayload(request_id, TENANT, PROMPT, {"0": said(number)})
    return Frame(FrameKind.CHUNK, encode_chunk(chunk))


def outcome_frame(request_id: str) -> Frame:
    return Frame(FrameKind.OUTCOME, encode_outcome(outcome_of(request_id)))


async def live(writer: SpoolWriter, seed: int, tell: Tell) -> None:
    async def append(kind: str, request_id: str, *frames: Frame, essential: bool = False) -> None:
        tell(ASKED, kind, request_id)
        await writer.append(frames, essential=essential)
        tell(ACKNOWLEDGED, kind, request_id)
        tell(ACKNOWLEDGED, CHAIN, head_in_words(writer))

    async def client(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for request in range(REQUESTS_EACH):
            request_id = f"{seed}-{number}-{request}"
            beside = [body_frame(request_id), *([LARGE] if chance.random() < 0.03 else [])]
            await append(INTENT, request_id, intent_frame(request_id), *beside)
            for chunk in range(chance.randrange(4)):
                word = f"{request_id}:{chunk}"
                await append(CHUNK, word, chunk_frame(request_id, chunk), essential=True)
            if chance.random() < 0.1:
                return  # it never ends
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
            await append(OUTCOME, request_id, outcome_frame(request_id), essential=True)

    await writer.append([Frame(FrameKind.REGISTRATION, b"{}")])
    await asyncio.gather(*map(client, range(CONCURRENT)))
    checkpoint = make_checkpoint(
        keys, writer.writer, writer.chain, at=0.0, previous=None, register=None
    )
    await writer.append([checkpoint.frame], essential=True)


def head_in_words(writer: SpoolWriter) -> str:
    return f"{writer.chain.sequence}:{writer.chain.hash.hex()}"


def check_recovered(spooled: Spooled, told: Told) -> None:
    """Nothing that was acknowledged is missing, nothing is invented, each request has one end."""
    kept = {(INTENT, request_id) for request_id in spooled.intents}
    asked = {each for each in told.asked if each[0] == INTENT}
    assert {each for each in told.acknowledged if each[0] == INTENT} <= kept <= asked
    assert spooled.outcomes.keys() == spooled.intents.keys()
    for request_id, intents in spooled.intents.items():
        assert intents == [intent_of(request_id)]
    for request_id, outcomes in spooled.outcomes.items():
        if (OUTCOME, request_id) in told.acknowledged:
            assert outcomes == [outcome_of(request_id)]
        elif (OUTCOME, request_id) not in told.asked or outcomes != [outcome_of(request_id)]:
            (outcome,) = outcomes
            check_crashed(outcome, spooled, told)
    check_chain(spooled, told)


def check_crashed(outcome: AuditOutcome, spooled: Spooled, told: Told) -> None:
    """It has the answer's text, of which nothing is missing that was acknowledged."""
    request_id = outcome.request_id
    content = outcome.content or {}
    least = told.chunks(told.acknowledged, request_id)
    most = told.chunks(told.asked, request_id)
    expected: dict[str, object] | None = content_of(request_id)
    if outcome.content is None and (INTENT, request_id) not in told.acknowledged:
        expected = None  # of what it appended, the intent alone
    number = 0
    if "answers" in content:
        answer = spooled.messages[bytes.fromhex(content["answers"]["0"])]
        assert (answer.tenant, answer.parent, answer.intact) == (
            TENANT,
            bytes.fromhex(PROMPT),
            True,
        )
        text = orjson.loads(answer.text() or b"")["content"]
        number = text.count(" ")
        assert text == "".join(map(said, range(number)))
        expected = content_of(request_id) | {"answers": content["answers"], "partial": True}
    assert least <= number <= most
    assert outcome == crashed_outcome(request_id, intent_of(request_id), expected)


def check_chain(spooled: Spooled, told: Told) -> None:
    """It goes through all that was acknowledged, and is closed once."""
    heads = {f"{head.sequence}:{head.hash.hex()}" for head in spooled.chain}
    assert {word for kind, word in told.acknowledged if kind == CHAIN} <= heads
    closed = [parse_checkpoint(payload) for payload in spooled.checkpoints]
    assert [checkpoint.closed for checkpoint in closed[:-1]] == [False] * (len(closed) - 1)
    if len(spooled.chain) > 1:
        assert closed[-1].closed
        assert closed[-1].head == spooled.chain[-2]
