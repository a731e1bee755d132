"""A request that has ended, as the span of its trace says it."""

from collections.abc import Sequence

import orjson

from app.audit.content.known_scrub import KnownScrub
from app.audit.records import AuditLevel
from app.gateway.audit import level_of
from app.gateway.defects import log_crash
from app.gateway.meter import Meter
from app.limits.attempts import AuthenticationThrottled
from app.protocol.request import ChatRequest, Json
from app.store.secrets import scrub_bytes
from app.telemetry import genai
from app.telemetry.metrics import MODEL_LABELS, OTHER
from app.telemetry.shown_answer import MAX_CONTENT_CHARACTERS, ShownAnswer
from app.telemetry.spans import Attribute, Conclusion


def end_trace(meter: Meter) -> None:
    """Once for each request, after it was audited. Raises nothing: it is a convenience."""
    if isinstance(meter.error, AuthenticationThrottled):
        return  # counted: a flood of strangers shall not be one of spans
    try:
        meter.trace.end(lambda: _conclude(meter))
    except Exception as error:  # noqa: BLE001 - logged, but for its words
        log_crash(meter.caller.request_id, error)


def _conclude(meter: Meter) -> Conclusion:
    caller, request, error = meter.caller, meter.request, meter.error
    attributes: dict[str, Attribute | None] = {
        genai.HTTP_METHOD: caller.method,
        genai.HTTP_ROUTE: caller.route,
        genai.HTTP_STATUS: meter.status,
        genai.REQUEST_ID: caller.request_id,
        genai.OUTCOME: meter.outcome,
    }
    if meter.principal is not None:
        attributes[genai.TENANT] = meter.principal.tenant
        attributes[genai.KEY_ID] = meter.principal.key_id
    name = f"{caller.method} {caller.route}"
    if request is not None:
        operation = genai.CHAT if request.chat else genai.TEXT_COMPLETION
        # A client may write anything there; the name of a span is what spans are grouped by.
        name = f"{operation} {MODEL_LABELS.get(request.model, OTHER)}"
        attributes[genai.OPERATION] = operation
        attributes.update(_asked(meter, request))
    if meter.was_served:
        attributes.update(_answered(meter))
    if meter.trace.answer is not None:
        attributes.update(_content(meter, meter.trace.answer))
    code = None if error is None else error.code or error.type
    # Whatever was the client's doing is no failure of the server: so OpenTelemetry has it.
    failed = error is not None and error.status >= 500
    said = {name: value for name, value in attributes.items() if value is not None}
    return Conclusion(name, said, code, failed)


def _asked(meter: Meter, request: ChatRequest) -> dict[str, Attribute | None]:
    asked: dict[str, Attribute | None] = {
        genai.PROVIDER: genai.PROVIDER_NAME,
        genai.REQUEST_MODEL: meter.model,
        genai.REQUEST_STREAM: request.stream,
        genai.REQUEST_CHOICES: request.n if request.n > 1 else None,
    }
    if meter.prepared is not None:
        fields = meter.prepared.fields
        asked[genai.REQUEST_MAX_TOKENS] = meter.prepared.max_tokens
        asked.update({theirs: fields.get(ours) for ours, theirs in genai.REQUEST_SAMPLING.items()})
    return asked


def _answered(meter: Meter) -> dict[str, Attribute | None]:
    usage = meter.usage
    answered: dict[str, Attribute | None] = {
        genai.ATTEMPTS: meter.attempts,
        genai.RESCUES: list(meter.rescues) or None,
        genai.FIRST_CHUNK_SECONDS: meter.time_to_first_token_seconds,
        genai.FINISH_REASONS: list(meter.finishes.values()) or None,
        genai.INPUT_TOKENS: usage.prompt_tokens,
        genai.OUTPUT_TOKENS: usage.completion_tokens,
        genai.REASONING_TOKENS: usage.reasoning_tokens,
        genai.CACHED_TOKENS: usage.cached_tokens,
    }
    if meter.readers or meter.attached is not None:
        answered[genai.RESPONSE_MODEL] = meter.model
    if meter.attached is not None:
        answered[genai.ATTACHED_TO] = meter.attached.origin.request_id
    return answered


def _content(meter: Meter, shown: ShownAnswer) -> dict[str, Attribute | None]:
    """What the key lets be kept, and nothing else: the prompt as the filter left it, and of the
    answer what the client was shown."""
    policy = meter.principal.policy if meter.principal is not None else None
    if level_of(policy) is AuditLevel.METADATA or meter.screened is None:
        return {}
    if meter.screened.refusal is not None:
        return {}
    messages, cut = _input(meter.screened.request.messages)
    return {
        genai.INPUT_MESSAGES: _json(messages),
        genai.OUTPUT_MESSAGES: _json(_output(meter, shown)),
        genai.CONTENT_CUT: True if cut or shown.cut else None,
    }


def _input(messages: Sequence[Json]) -> tuple[list[Json], bool]:
    """The last of them, as far as there is room: they are what the answer is about."""
    left = MAX_CONTENT_CHARACTERS
    kept: list[Json] = []
    for message in reversed(messages):
        parts = _parts(message)
        size = sum(len(text) for part in parts for text in part.values() if isinstance(text, str))
        if size > left:
            return kept[::-1], True
        left -= size
        kept.append({"role": message["role"], "parts": parts})
    return kept[::-1], False


def _parts(message: Json) -> list[Json]:
    parts: list[Json] = []
    content = message.get("content")
    if isinstance(content, str):
        kind = "tool_call_response" if message["role"] == "tool" else "text"
        parts.append({"type": kind, "content": content})
    for call in message.get("tool_calls", ()):
        function = call["function"]
        parts.append(_call(call.get("id"), function["name"], function["arguments"]))
    return parts


def _output(meter: Meter, shown: ShownAnswer) -> list[Json]:
    finishes = meter.finishes
    choices = sorted({*shown.texts, *shown.thoughts, *(choice for choice, _ in shown.calls)})
    messages = []
    for choice in choices:
        parts: list[Json] = []
        if choice in shown.thoughts:
            parts.append({"type": "reasoning", "content": _whole(shown, shown.thoughts[choice])})
        if choice in shown.texts:
            parts.append({"type": "text", "content": _whole(shown, shown.texts[choice])})
        parts += [
            _call(call.id, call.name, _whole(shown, [call.arguments]))
            for (of, _), call in sorted(shown.calls.items())
            if of == choice
        ]
        finish = finishes.get(choice, "error")
        messages.append({"role": "assistant", "parts": parts, "finish_reason": finish})
    return messages


def _whole(shown: ShownAnswer, pieces: Sequence[str]) -> str:
    """Where it was cut, without what may be the first half of a secret: no search finds that."""
    text = "".join(pieces)
    return KnownScrub().feed(text) if shown.cut else text


def _call(call_id: str | None, name: str | None, arguments: object) -> Json:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def _json(messages: list[Json]) -> str:
    """Without secrets of ours, which the audit log does not keep either."""
    return scrub_bytes(orjson.dumps(messages, default=str)).decode()
