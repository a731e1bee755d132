"""Thoughts that a client sends back, in a tool loop: what of them the model gets to see again."""

import structlog

from app.errors import InternalError, InvalidRequest
from app.gateway.types import Principal
from app.protocol.neutralise import neutralise_text
from app.protocol.request import ChatRequest, Json, SentThought
from app.protocol.sealed import SealBroken, Sealer
from app.settings import MODEL_ID
from app.store.policy import Reasoning
from app.telemetry.metrics import Metrics

log = structlog.get_logger()


def sealer_for(sealer: Sealer | None) -> Sealer:
    """Raises InternalError (`sealing_key_missing`): a thought that cannot be sealed must not be
    shown, and one that is lost breaks the client's tool loop unseen."""
    if sealer is None:
        log.error("sealing_key_missing", hint="set GATEWAY_SEALING_KEY, on every replica alike")
        raise InternalError(
            "The gateway has no sealing key, which this API key's policy needs.",
            code="sealing_key_missing",
            should_retry=False,
        )
    return sealer


def put_back(
    messages: list[Json],
    request: ChatRequest,
    principal: Principal,
    sealer: Sealer | None,
    now: float,
    metrics: Metrics,
) -> None:
    """Adds to `messages`, the neutralised ones, the thoughts that the template uses: those of
    answers after the last user turn. A sealed one has to open, with all of its parts; the client's
    own text counts for a key that may read thoughts.

    `now` is in wall-clock seconds since the epoch. Raises InvalidRequest (`unreadable_reasoning`)
    where the policy refuses what does not open.
    """
    if not request.thoughts:
        return
    reasoning = principal.policy.reasoning
    users = (index for index, message in enumerate(messages) if message["role"] == "user")
    last_user = max(users, default=-1)
    for sent in request.thoughts:
        if sent.message < last_user:
            continue
        thought = None
        if reasoning is Reasoning.VISIBLE:
            thought = sent.text
        elif reasoning is Reasoning.SEALED and sealer is not None and sent.seals:
            thought = _opened(sent, principal, sealer, now, metrics)
        if thought:
            harmless = neutralise_text(thought)
            # vLLM reads only the first name, SGLang and llama.cpp only the second.
            messages[sent.message] |= {"reasoning": harmless, "reasoning_content": harmless}


def _opened(
    sent: SentThought, principal: Principal, sealer: Sealer, now: float, metrics: Metrics
) -> str | None:
    try:
        parts = [
            sealer.open(seal, tenant=principal.tenant, model=MODEL_ID, now=now)
            for seal in sent.seals
        ]
    except SealBroken as broken:
        metrics.sealed_reasoning(broken.reason)
        if principal.policy.unreadable_reasoning != "refuse":
            return None
        why = "has expired" if broken.reason == "expired" else "is not as this gateway sealed it"
        param = f"messages[{sent.sent_as}].reasoning_details"
        raise InvalidRequest(
            f"Invalid value for '{param}': the reasoning {why}. Leave it out to go on without it.",
            param=param,
            code="unreadable_reasoning",
        ) from None
    metrics.sealed_reasoning("restored")
    return "".join(parts)
