"""The way of a request, top to bottom. Read this first.

    authenticate -> screen -> prepare -> admit -> record intent -> route -> stream
                                                                     ^        |
                                         of an answer without a word '-rescue-'
                                                    settle -> record outcome  <-

Each step has a file named after it. However a request ends, it is settled and audited once, and
only then does its client see the end.
"""

import asyncio
import traceback
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from app.audit.records import AuditLog
from app.drain import Drain
from app.errors import GatewayError, InternalError, Unavailable
from app.gateway.admit import admit
from app.gateway.audit import intent_of, outcome_of
from app.gateway.authenticate import authenticate
from app.gateway.cost import subjects_of
from app.gateway.expect import Learned
from app.gateway.interruption import Interruption
from app.gateway.learn import learn
from app.gateway.meter import SHUTTING_DOWN, Meter
from app.gateway.observe import observe
from app.gateway.prepare import prepare
from app.gateway.rescue import rescue, stands
from app.gateway.route import route
from app.gateway.screen import screen
from app.gateway.seal import seal
from app.gateway.settle import count, settle
from app.gateway.stream import stream
from app.gateway.types import Answer, Call, Caller, PreparedRequest, Principal
from app.limits.attempts import AuthenticationThrottled, FailedAttempts
from app.limits.limiter import Limiter
from app.limits.subjects import Standing
from app.protocol.domains import Lexicon
from app.protocol.sealed import Sealer
from app.rules.watch import RulebookWatch
from app.settings import Settings
from app.store.keys import KeyStore
from app.telemetry.metrics import Metrics
from app.upstream.workers import Workers

DRAIN_RETRY_SECONDS = 2.0  # by then another replica has the traffic

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True)
class Gateway:
    """What a request needs, built once at start."""

    settings: Settings
    pepper: bytes
    keys: KeyStore
    failed_attempts: FailedAttempts
    limiter: Limiter
    audit: AuditLog
    workers: Workers
    sealer: Sealer | None
    learned: Learned
    rules: RulebookWatch
    lexicon: Lexicon
    metrics: Metrics
    drain: Drain
    clock: Callable[[], float]  # monotonic


async def complete(call: Call, gateway: Gateway) -> None:
    """Serves one chat completion to its end. Raises nothing but a cancellation from outside."""
    meter = Meter(call.caller, gateway.clock)
    answer: Answer | None = None
    cancelled: asyncio.CancelledError | None = None
    interruption = Interruption()
    end = partial(interruption.interrupt, shutting_down())
    with gateway.metrics.in_flight(), gateway.drain.running(end):
        try:
            answer = await _answer(call, gateway, meter, interruption)
            meter.end(None)
        except GatewayError as error:
            meter.end(error)
        except asyncio.CancelledError as error:  # the server gave up waiting
            cancelled = error
            meter.end(shutting_down())
        except Exception as error:  # noqa: BLE001 - logged, but for its words
            log_crash(call.caller.request_id, error)
            meter.end(InternalError("The gateway failed; it has been logged."))
        await _settle(meter, gateway)
        learn(meter, gateway.learned, gateway.metrics)
        await _record_outcome(meter, gateway)
        observe(meter, gateway.metrics)
        # Only now: whoever sees the end of an answer can rely on its record.
        if meter.error is not None:
            await call.fail(meter.error, meter.standing)
        elif answer is not None:
            await answer.finish(meter.usage, meter.finishes)
    if cancelled is not None:
        raise cancelled


async def consult(
    caller: Caller,
    credential: Callable[[], str],
    gateway: Gateway,
    look_up: Callable[[Principal], T],
    tell: Callable[[Standing], None],
) -> T:
    """A request that needs no worker: authenticated, audited and observed like any other, but not
    charged. `tell` learns what the key has left."""
    meter = Meter(caller, gateway.clock)
    try:
        meter.principal = await authenticate(
            credential, caller.client_ip, gateway.keys, gateway.failed_attempts
        )
        await count(meter, gateway.limiter, requests=0)
        tell(meter.standing)
        result = look_up(meter.principal)
        meter.end(None)
    except GatewayError as error:
        meter.end(error)
        raise
    except Exception as error:  # raised again, as a defect of ours that tells no more
        log_crash(caller.request_id, error)
        defect = InternalError("The gateway failed; it has been logged.")
        meter.end(defect)
        raise defect from error
    finally:
        await _record_outcome(meter, gateway)
        observe(meter, gateway.metrics)
    if meter.error is not None:  # it could not be recorded
        raise meter.error
    return result


async def _answer(call: Call, gateway: Gateway, meter: Meter, interruption: Interruption) -> Answer:
    """The straight line, but for the answer's end, which waits for the record of it."""
    async with interruption:
        if gateway.drain.draining:
            raise shutting_down()
        meter.principal = await authenticate(
            call.credential, call.caller.client_ip, gateway.keys, gateway.failed_attempts
        )
        # Before its body is read: a key that is over its requests must not cost more than that.
        gateway.limiter.check(subjects_of(meter.principal))
        meter.request = request = await call.read()
        answer = call.answer(request, meter.principal.policy)
        async with call.watch(interruption), answer.pulse():
            meter.screened = screened = await screen(
                request,
                meter.principal,
                gateway.rules.current,
                gateway.lexicon,
                gateway.settings.filter_profile,
            )
            if screened.refusal is not None:
                raise screened.refusal
            answer.annotated(screened.annotations, in_body=request.annotate)
            meter.prepared = prepared = await prepare(
                screened.request,
                screened.profile,
                meter.principal,
                meter.caller,
                gateway.settings,
                gateway.pepper,
                gateway.workers,
                gateway.sealer,
                gateway.learned,
            )
            answer.adjusted(prepared.adjusted)
            meter.limits_asked = True
            prepared, meter.admission = await admit(
                prepared,
                meter.principal,
                gateway.limiter,
                gateway.workers,
                gateway.settings,
                meter.caller.request_id,
            )
            meter.prepared = prepared
            meter.standing = meter.admission.standing
            answer.limited(meter.standing)
            await _record_intent(meter, gateway)
            silence = gateway.settings.inter_token_seconds
            asked: PreparedRequest | None = prepared
            while asked is not None:
                try:
                    async with (
                        route(asked, gateway.workers, meter) as upstream,
                        aclosing(stream(upstream, asked, meter, silence)) as batches,
                    ):
                        async for events in batches:
                            await answer.send(events)
                            meter.delivered(events)
                except GatewayError:
                    if not stands(asked, meter):
                        raise
                    break
                last, asked = asked, rescue(asked, meter, gateway.workers)
            if gateway.sealer is not None and prepared.seal:
                tenant = meter.principal.tenant
                await answer.send(seal(last, meter, tenant, gateway.sealer, gateway.metrics))
    return answer


async def _settle(meter: Meter, gateway: Gateway) -> None:
    """Nothing that goes wrong here keeps a request from its record and its end."""
    try:
        async with asyncio.timeout(gateway.settings.settle_seconds):
            await settle(meter, gateway.limiter, gateway.settings.cached_token_weight)
    except TimeoutError:
        log.error("settled_late", request_id=meter.caller.request_id)
    except Exception as error:  # noqa: BLE001 - logged, but for its words
        log_crash(meter.caller.request_id, error)


async def _record_intent(meter: Meter, gateway: Gateway) -> None:
    await gateway.audit.intent(intent_of(meter))
    meter.intent_recorded = True


async def _record_outcome(meter: Meter, gateway: Gateway) -> None:
    """An answer that cannot be recorded fails, before its client has seen the end of it."""
    if isinstance(meter.error, AuthenticationThrottled):
        return  # counted, and a line in the log: a flood of strangers may cost no database
    try:
        if meter.intent_recorded:
            await gateway.audit.outcome(outcome_of(meter))
        else:  # no worker was asked
            await gateway.audit.whole(intent_of(meter), outcome_of(meter))
    except GatewayError as error:
        log.error("request_not_recorded", request_id=meter.caller.request_id)
        if meter.error is None:
            meter.end(error)


def log_crash(request_id: str, error: Exception) -> None:
    """Where it was, without the exception's own words: they may quote what the request or its
    answer holds."""
    log.error(
        "request_crashed",
        request_id=request_id,
        error=type(error).__name__,
        traceback="".join(traceback.format_tb(error.__traceback__)),
    )


def shutting_down() -> Unavailable:
    return Unavailable(
        "The gateway is shutting down. Please try again.",
        code=SHUTTING_DOWN,
        retry_after_seconds=DRAIN_RETRY_SECONDS,
    )
