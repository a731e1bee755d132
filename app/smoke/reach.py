"""Who answers there, which model, and how long its prompts may be."""

import re
from typing import Any

from app.protocol.request import Json
from app.settings import MODEL_ALIAS, MODEL_ID
from app.smoke.failures import AskFailed, Kind, advice_for
from app.smoke.progress import Running
from app.smoke.result import CannotStart, Result, Status
from app.smoke.target import Target
from app.smoke.visit import Deployment, Options

# As our gateway makes them; other servers' are of other forms, or there are none.
_GATEWAY_REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")
_CONTEXT = re.compile(r"maximum context length is (\d{1,9}) tokens")
# More than any model can be asked for: it is refused at once, by a line that names the context.
IMPOSSIBLE_TOKENS = 1_000_000_000
REFUSAL_SECONDS = 30.0
STEP = "reach"


async def reach(target: Target, options: Options) -> Deployment:
    """Raises CannotStart."""
    try:
        listed, request_id = await target.models()
    except AskFailed as failure:
        advice = advice_for(failure)
        if failure.kind is Kind.UNREACHABLE:
            advice = "is the URL right, and the server up?"
        raise CannotStart(_joined(f"{target.url}: {failure.words}", advice)) from None
    cards = {card["id"]: card for card in _cards(listed)}
    if not cards:
        raise CannotStart(f"{target.url}: it lists no model that this key may use")
    model = options.model or _choose(list(cards))
    if model not in cards:
        known = ", ".join(cards)
        raise CannotStart(f"--model: {model!r} is none of those there: {known}")
    gateway = _GATEWAY_REQUEST_ID.fullmatch(request_id or "") is not None
    context = _context_of(cards[model])
    if context is None:
        context = await _asked_context(target, model)
    return Deployment(model, gateway, context)


def reached(target: Target, deployment: Deployment) -> Result:
    context = deployment.context_tokens
    words = "a context of unknown length" if context is None else f"a context of {context:,} tokens"
    kind = "gateway" if deployment.gateway else "server"
    return Result(
        STEP,
        Status.OK,
        f"a {kind} at {target.url}, model {deployment.model}, {words}",
        figures={
            "model": deployment.model,
            "gateway": deployment.gateway,
            "context_tokens": context,
        },
    )


def _joined(text: str, advice: str | None) -> str:
    return text if advice is None else f"{text}; {advice}"


def _cards(listed: Json) -> list[dict[str, Any]]:
    data = listed.get("data")
    if not isinstance(data, list):
        return []
    return [card for card in data if isinstance(card, dict) and isinstance(card.get("id"), str)]


def _choose(names: list[str]) -> str:
    return next((name for name in (MODEL_ALIAS, MODEL_ID) if name in names), names[0])


def _context_of(card: Json) -> int | None:
    """vLLM and SGLang say it, and llama.cpp elsewhere; a gateway does not."""
    meta = card.get("meta")
    values = (card.get("max_model_len"), meta.get("n_ctx") if isinstance(meta, dict) else None)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


async def _asked_context(target: Target, model: str) -> int | None:
    """By asking for what nobody can have. A server that starts an answer instead is stopped."""
    fields: Json = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": IMPOSSIBLE_TOKENS,
    }
    try:
        await target.ask(fields, Running(STEP, 0, REFUSAL_SECONDS))
    except AskFailed as failure:
        found = _CONTEXT.search(failure.detail)
        return None if found is None else int(found[1])
    return None
