"""A request on record: its intent before a worker is asked, its outcome before its client sees the
end of it."""

from functools import partial

import structlog

from app.audit.recorder import Recorder
from app.audit.recording import Recording
from app.audit.spool.log import AuditUnavailable
from app.errors import GatewayError
from app.gateway.audit import intent_of, outcome_of, thoughts_of
from app.gateway.defects import defect, log_crash
from app.gateway.meter import Meter
from app.limits.attempts import AuthenticationThrottled
from app.limits.refusals import LimitReached
from app.protocol.request import ChatRequest

log = structlog.get_logger()


def refuse_unrecordable(meter: Meter, audit: Recorder) -> None:
    """Before a worker is asked even to count the prompt. Raises AuditUnavailable; whether a request
    that passes can be recorded, its intent tells."""
    if not audit.accepting and not _may_go_on(meter):
        raise AuditUnavailable


async def record_intent(meter: Meter, audit: Recorder) -> Recording:
    """Durable on return. Raises AuditUnavailable."""
    # Before it is written: whoever is cancelled meanwhile ends what may be on disk.
    meter.recording = recording = _recording(meter, audit, meter.request)
    await recording.begin()
    return recording


async def record_outcome(meter: Meter, audit: Recorder) -> None:
    """An answer that cannot be recorded fails, before its client has seen the end of it."""
    if isinstance(meter.error, AuthenticationThrottled):
        return  # counted, and a line in the log: a flood of strangers may cost no database
    recording = meter.recording
    if recording is None:  # no worker was asked
        # What limits refuse is told by numbers: its text would let a flood fill the disk.
        text = None if isinstance(meter.error, LimitReached) else meter.request
        recording = _recording(meter, audit, text)
    try:
        await _end_recording(recording, meter)
    except GatewayError as error:
        log.error("request_not_recorded", request_id=meter.caller.request_id)
        if meter.error is None:
            meter.end(error)


async def _end_recording(recording: Recording, meter: Meter) -> None:
    """A defect in what is kept of a text fails the answer, but leaves the rest of its record."""
    try:
        await recording.end(outcome_of(meter))
    except GatewayError:
        raise
    except Exception as error:  # noqa: BLE001 - logged, but for its words; the answer fails
        log_crash(meter.caller.request_id, error)
        if meter.error is None:
            meter.end(defect())
        recording.forget_text()
        await recording.end(outcome_of(meter))


def _recording(meter: Meter, audit: Recorder, request: ChatRequest | None) -> Recording:
    thoughts = partial(thoughts_of, meter)
    may_go_on = _may_go_on(meter)
    return Recording(audit, intent_of(meter), request, thoughts=thoughts, may_go_on=may_go_on)


def _may_go_on(meter: Meter) -> bool:
    principal = meter.principal
    return principal is not None and principal.audit_on_failure == "open_metadata"
