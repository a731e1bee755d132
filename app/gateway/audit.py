"""What the audit log is told."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from app.audit.records import AuditIntent, AuditLevel, AuditOutcome
from app.errors import ColdPrefillTooLong, Forbidden, GatewayError
from app.gateway.meter import Meter
from app.gateway.types import MAX_LISTED_HITS, Screened
from app.protocol.filters.rule import Hit
from app.store.policy import Policy
from app.store.secrets import scrub, scrub_to

# Parameters worth keeping. Texts, tools and schemas are not among them.
_PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "max_tokens", "n", "seed", "parallel_tool_calls",
)  # fmt: skip
BETWEEN_TRIES = "\n\n"  # their thoughts
MAX_CLAIM_CHARACTERS = 128  # of what a client says about itself


def intent_of(meter: Meter) -> AuditIntent:
    caller, principal, request = meter.caller, meter.principal, meter.request
    parameters = {}
    if meter.prepared is not None:
        fields = meter.prepared.fields
        parameters = {name: fields[name] for name in _PARAMETERS if name in fields}
        if "tool_choice" in fields:
            parameters["tool_choice"] = _kind(fields["tool_choice"])
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
        level=level_of(principal.policy if principal else None),
    )


def _kind(tool_choice: str | dict[str, Any]) -> str:
    """Without the name of a tool, which is the client's text."""
    return tool_choice if isinstance(tool_choice, str) else "function"


def level_of(policy: Policy | None) -> AuditLevel:
    """Of a stranger nothing is kept but that it came."""
    if policy is None:
        return AuditLevel.METADATA
    return AuditLevel.FULL if policy.audit is None else AuditLevel(policy.audit)


def outcome_of(meter: Meter) -> AuditOutcome:
    caller, principal = meter.caller, meter.principal
    return AuditOutcome(
        request_id=caller.request_id,
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
        charged_tokens=meter.charged_tokens,
        settled_at=meter.settled_at,
        received_at=caller.received_at,
        route=caller.route,
        key_id=principal.key_id if principal else None,
        tenant=principal.tenant if principal else None,
        model=meter.model,
    )


def thoughts_of(meter: Meter) -> dict[int, str]:
    """What the model thought, by choice, over all tries: where it was kept."""
    thoughts: dict[int, list[str]] = {}
    for reader in meter.readers:
        for index, choice in enumerate(reader.choices):
            if choice.thought:
                thoughts.setdefault(index, []).append(choice.thought)
    return {index: BETWEEN_TRIES.join(parts) for index, parts in thoughts.items()}


def findings_of(meter: Meter) -> dict[str, Any]:
    """What was done to the request and to its answer, and why; no text of either but names of
    tools and words of the lexicon, and not even those at the level `metadata`."""
    with_names = level_of(meter.principal.policy if meter.principal else None) != "metadata"
    found: dict[str, Any] = {}
    if meter.prepared is not None and meter.prepared.adjusted:
        found["adjusted"] = dict(meter.prepared.adjusted)
    _add_filtered(meter, found)
    _add_domains(meter.screened, found, with_names=with_names)
    _add_refused(meter.error, found, with_names=with_names)
    for reader in meter.readers:
        of = reader.findings
        if of.hidden:
            hidden = found.setdefault("hidden", {})
            for where, times in of.hidden.items():
                hidden[where.value] = hidden.get(where.value, 0) + times
        if of.refused_calls:
            found.setdefault("refused_calls", []).extend(
                {"name": scrub(call.name), "reason": call.reason}
                if with_names
                else {"reason": call.reason}
                for call in of.refused_calls
            )
        if of.stopped is not None:
            found["stopped"] = of.stopped
        if of.shown_too_early:
            found["shown_too_early"] = found.get("shown_too_early", 0) + of.shown_too_early
    if meter.rescues:
        found["rescues"] = list(meter.rescues)
    _add_company(meter, found)
    return found


def _add_company(meter: Meter, found: dict[str, Any]) -> None:
    """Whose answer it got; and whether the work went on for others when its client had left."""
    if meter.attached is not None:
        found["attached_to"] = meter.attached.origin.request_id
    if meter.left is not None:
        found["went_on"] = True


def _add_refused(error: GatewayError | None, found: dict[str, Any], *, with_names: bool) -> None:
    if isinstance(error, Forbidden):
        found["refused"] = {"param": error.param}
        if with_names:
            found["refused"]["message"] = scrub(error.message)
    elif isinstance(error, ColdPrefillTooLong):
        found["cold_prefill"] = {
            "tokens": error.cold_tokens,
            "limit_tokens": error.limit_tokens,
        }


def _add_filtered(meter: Meter, found: dict[str, Any]) -> None:
    """An entry for each hit: the rule and the place, never what it matched."""
    entries = [
        {"rule": hit.rule, "action": hit.action, "where": where, "span": [hit.start, hit.end]}
        for where, hit in islice(_hits(meter), MAX_LISTED_HITS)
    ]
    if entries:
        found["filter"] = entries
    if len(entries) == MAX_LISTED_HITS:
        found["filter_more"] = hit_counts(meter).total() - len(entries)


def _add_domains(screened: Screened | None, found: dict[str, Any], *, with_names: bool) -> None:
    if screened is None or not screened.domains:
        return
    found["domains"] = {
        domain.value: {
            "action": screened.domain_actions.get(domain, "count"),
            "score": verdict.score,
            **({"terms": list(verdict.terms)} if with_names else {}),
        }
        for domain, verdict in screened.domains.items()
    }


def hit_counts(meter: Meter) -> Counter[tuple[str, str, str]]:
    """All hits of the prompt and of all tries, by rule, action and surface."""
    counts: Counter[tuple[str, str, str]] = Counter()
    if meter.screened is not None:
        for (rule, action), times in meter.screened.counts.items():
            counts[rule, action, "prompt"] += times
    for reader in meter.readers:
        counts.update((one.hit.rule, one.hit.action, one.surface) for one in reader.hits)
    return counts


def _hits(meter: Meter) -> Iterator[tuple[str, Hit]]:
    """With where they were: a field of the request, or what the client was shown and of which
    choice."""
    if meter.screened is not None:
        for prompt_hit in meter.screened.hits:
            yield prompt_hit.where, prompt_hit.hit
    for reader in meter.readers:
        for one in reader.hits:
            yield f"choices[{one.choice}].{one.surface}", one.hit


def _claim(value: str | None) -> str | None:
    return None if value is None else scrub_to(value, MAX_CLAIM_CHARACTERS)
