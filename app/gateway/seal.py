"""The thought of an answer, sealed for a client that may keep it and not read it."""

from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest, Rescue
from app.protocol.events import SealedReasoning
from app.protocol.sealed import MAX_THOUGHT_BYTES, Sealer
from app.settings import MODEL_ID
from app.telemetry.metrics import Metrics

# A character has at most four bytes; longer than that no output gets by far.
MAX_THOUGHT_CHARACTERS = MAX_THOUGHT_BYTES // 4


def seal(
    prepared: PreparedRequest, meter: Meter, tenant: str, sealer: Sealer, metrics: Metrics
) -> list[SealedReasoning]:
    """One seal for each choice that thought; it expires counted from the request's reception.

    The thought of an answer that was gone on with stands before the continuation.
    """
    reader = meter.readers[0 if prepared.rescue is Rescue.SALVAGE else -1]
    seals: list[SealedReasoning] = []
    for index, choice in enumerate(reader.choices):
        if choice.thought.strip() and len(choice.thought) <= MAX_THOUGHT_CHARACTERS:
            data = sealer.seal(
                choice.thought,
                tenant=tenant,
                model=MODEL_ID,
                now=meter.caller.received_at,
            )
            seals.append(SealedReasoning(index, data))
            metrics.sealed_reasoning("sealed")
    return seals
