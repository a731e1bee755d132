"""What the audit log is told."""

from typing import Any

from app.audit.records import AuditIntent, AuditOutcome
from app.errors import Forbidden
from app.gateway.meter import Meter
from app.store.secrets import scrub

# Parameters worth keeping. Texts, tools and schemas are not among them.
_PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "max_tokens", "n", "seed", "tool_choice", "parallel_tool_calls",
)  # fmt: skip
MAX_CLAIM_CHARACTERS = 128  # of what a client says about itself


def intent_of(meter: Meter) -> AuditIntent:
    caller, principal, request = meter.caller, meter.principal, meter.request
    parameters = {}
    if meter.prepared is not None:
        fields = meter.prepared.fields
        parameters = {name: fields[name] for name in _PARAMETERS if name in fields}
        parameters["messages"] = len(fields["messages"])
        parameters["tools"] = len(fields.get("tools", ()))
    return AuditIntent(
        request_id=caller.request_id,
        received_at=caller.received_at,
        route=caller.route,
        key_id=principal.key_id if principal else None,
        tenant=principal.tenant if principal else None,
        model=meter.model,
        stream=request.stream if request else None,
        body_bytes=request.body_bytes if request else 0,
        parameters=parameters,
        client_ip=caller.client_ip,
        user_agent=_claim(caller.user_agent),
        client_request_id=_claim(caller.client_request_id),
    )


def outcome_of(meter: Meter) -> AuditOutcome:
    return AuditOutcome(
        request_id=meter.caller.request_id,
        outcome=meter.outcome,
        status=meter.status,
        error_code=meter.error.code if meter.error else None,
        finish_reason=meter.finish_reason if meter.error is None else None,
        worker=meter.worker,
        attempts=meter.attempts,
        usage=meter.usage,
        time_to_first_token_seconds=meter.time_to_first_token_seconds,
        duration_seconds=meter.duration_seconds,
        findings=findings_of(meter),
    )


def findings_of(meter: Meter) -> dict[str, Any]:
    """What was done to the request and to its answer, and why; no text of either."""
    found: dict[str, Any] = {}
    if meter.prepared is not None and meter.prepared.adjusted:
        found["adjusted"] = dict(meter.prepared.adjusted)
    if isinstance(meter.error, Forbidden):
        found["refused"] = {"param": meter.error.param, "message": meter.error.message}
    for reader in meter.readers:
        of = reader.findings
        if of.hidden:
            hidden = found.setdefault("hidden", {})
            for where, times in of.hidden.items():
                hidden[where] = hidden.get(where, 0) + times
        if of.refused_calls:
            found.setdefault("refused_calls", []).extend(
                {"name": call.name, "reason": call.reason} for call in of.refused_calls
            )
        if of.stopped is not None:
            found["stopped"] = of.stopped
        if of.shown_too_early:
            found["shown_too_early"] = found.get("shown_too_early", 0) + of.shown_too_early
    if meter.rescues:
        found["rescues"] = list(meter.rescues)
    return found


def _claim(value: str | None) -> str | None:
    return None if value is None else scrub(value[:MAX_CLAIM_CHARACTERS])
