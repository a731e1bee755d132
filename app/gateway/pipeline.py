"""The way of a request, top to bottom. Read this first.

    authenticate -> screen -> prepare -> admit -> record intent -> route -> stream
          |                                                          ^        |
          |                              of an answer without a word '-rescue-'
          '-> attach -> record intent -> follow                               |
                                                    settle -> record outcome  <-

Each step has a file named after it. However a request ends, it is settled and audited once, and
only then does its client see the end. One that comes again while it is being answered is attached
to what is running (`attach.py`); what becomes of one whose client leaves stands in `leaving.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from app.audit.recorder import Recorder
from app.audit.recording import Recording
from app.drain import Drain
from app.errors import GatewayError, Unavailable
from app.gateway.admit import admit
from app.gateway.asked import Origin
from app.gateway.attach import about, find_run, follow, origin_of
from app.gateway.authenticate import authenticate
from app.gateway.cost import subjects_of
from app.gateway.defects import defect, log_crash
from app.gateway.endings import Endings
from app.gateway.expect import Learned
from app.gateway.interruption import Interruption
from app.gateway.learn import learn
from app.gateway.leaving import Leaving, Work
from app.gateway.meter import SHUTTING_DOWN, Meter
from app.gateway.observe import observe
from app.gateway.patience import patience, refuse_hopeless
from app.gateway.prepare import prepare
from app.gateway.record import record_intent, record_outcome, refuse_unrecordable
from app.gateway.rescue import rescue, stands
from app.gateway.route import route
from app.gateway.running import About, Run, Running
from app.gateway.screen import screen
from app.gateway.seal import seal
from app.gateway.settle import count, settle
from app.gateway.stream import stream
from app.gateway.trace import end_trace
from app.gateway.types import Answer, Call, Caller, PreparedRequest, Principal
from app.limits.attempts import FailedAttempts
from app.limits.limiter import Limiter
from app.limits.subjects import Standing
from app.protocol.domains import Lexicon
from app.protocol.events import Visible
from app.protocol.request import ChatRequest
from app.protocol.sealed import Sealer
from app.rules.watch import RulebookWatch
from app.settings import Settings
from app.store.keys import KeyStore
from app.telemetry.metrics import Metrics
from app.telemetry.trace_context import TraceHeaders
from app.telemetry.traces import NoTraces, Step
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
    audit: Recorder
    endings: Endings
    workers: Workers
    sealer: Sealer | None
    learned: Learned
    running: Running
    rules: RulebookWatch
    lexicon: Lexicon
    metrics: Metrics
    traces: NoTraces
    drain: Drain
    clock: Callable[[], float]  # monotonic


async def complete(call: Call, gateway: Gateway) -> None:
    """Serves one chat completion to its end. Raises nothing but a cancellation from outside."""
    meter = _meter(call.caller, call.trace_headers, gateway)
    answer: Answer | None = None
    interruption = Interruption()
    end = partial(interruption.interrupt, shutting_down())
    with gateway.metrics.in_flight(), gateway.drain.running(end), gateway.endings.expected():
        try:
            answer = await _answer(call, gateway, meter, interruption)
            meter.end(meter.left)
        except GatewayError as error:
            meter.end(error)
        except asyncio.CancelledError:  # the server gave up waiting
            meter.end(shutting_down())
            gateway.endings.begin(_end(meter, gateway))
            raise
        except Exception as error:  # noqa: BLE001 - logged, but for its words
            log_crash(call.caller.request_id, error)
            meter.end(defect())
        await gateway.endings.run(_end(meter, gateway))
        if meter.left is not None:
            return
        # Only now: whoever sees the end of an answer can rely on its record.
        if meter.error is not None:
            await call.fail(meter.error, meter.standing)
        elif answer is not None:
            await answer.finish(meter.usage_shown, meter.finishes)


def _meter(caller: Caller, headers: Callable[[], TraceHeaders], gateway: Gateway) -> Meter:
    trace = gateway.traces.begin(headers, caller.received_at, caller.started_at)
    return Meter(caller, gateway.clock, trace)


async def consult(
    caller: Caller,
    trace_headers: Callable[[], TraceHeaders],
    credential: Callable[[], str],
    gateway: Gateway,
    look_up: Callable[[Principal], T],
    tell: Callable[[Standing], None],
) -> T:
    """A request that needs no worker: authenticated, audited and observed like any other, but not
    charged. `tell` learns what the key has left."""
    meter = _meter(caller, trace_headers, gateway)
    with gateway.endings.expected():
        result = await _consult(meter, credential, gateway, look_up, tell)
    if meter.error is not None:  # it could not be recorded
        raise meter.error
    return result


async def _consult(
    meter: Meter,
    credential: Callable[[], str],
    gateway: Gateway,
    look_up: Callable[[Principal], T],
    tell: Callable[[Standing], None],
) -> T:
    caller = meter.caller
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
    except asyncio.CancelledError:  # the server gave up waiting
        meter.end(shutting_down())
        raise
    except Exception as error:  # raised again, as a defect of ours that tells no more
        log_crash(caller.request_id, error)
        failure = defect()
        meter.end(failure)
        raise failure from error
    finally:
        await gateway.endings.run(_tell(meter, gateway))
    return result


async def _answer(call: Call, gateway: Gateway, meter: Meter, interruption: Interruption) -> Answer:
    """The straight line, but for the answer's end, which waits for the record of it."""
    async with interruption:
        if gateway.drain.draining:
            raise shutting_down()
        meter.trace.step(Step.AUTHENTICATE)
        meter.principal = await authenticate(
            call.credential, call.caller.client_ip, gateway.keys, gateway.failed_attempts
        )
        # Before its body is read: a key that is over its requests must not cost more than that.
        gateway.limiter.check(subjects_of(meter.principal))
        meter.trace.step(Step.BODY)
        meter.request = await call.read()
        origin = origin_of(meter, gateway.rules.current)
        run = find_run(origin, gateway.running)
        if run is not None:
            return await _follow(run, call, gateway, meter, interruption)
        return await _ask(origin, call, gateway, meter, interruption)


async def _ask(
    origin: Origin, call: Call, gateway: Gateway, meter: Meter, interruption: Interruption
) -> Answer:
    request, principal = _known(meter)
    answer = call.answer(request, principal.policy)
    meter.run = run = gateway.running.begin(origin, lambda: meter.waiting)
    run.trace_link = meter.trace.link
    work = Work(
        meter,
        interruption,
        gateway.settings,
        gateway.metrics.pool,
        draining=lambda: gateway.drain.draining,
        tell=lambda error: gateway.endings.begin(call.fail(error, meter.standing)),
    )
    leaving = Leaving(run, work)
    async with call.watch(leaving.left), answer.pulse(lambda: meter.waiting):
        with patience(meter, leaving.goes_on, leaving.left):
            refuse_unrecordable(meter, gateway.audit)
            meter.trace.step(Step.SCREEN)
            meter.screened = screened = await screen(
                request,
                principal,
                gateway.rules.current,
                gateway.lexicon,
                gateway.settings.filter_profile,
            )
            if screened.refusal is not None:
                raise screened.refusal
            answer.annotated(screened.annotations, in_body=request.annotate)
            meter.trace.step(Step.PREPARE)
            meter.prepared = prepared = await prepare(
                screened.request,
                screened.profile,
                principal,
                meter.caller,
                gateway.settings,
                gateway.pepper,
                gateway.workers,
                gateway.sealer,
                gateway.learned,
            )
            answer.adjusted(prepared.adjusted)
            refuse_hopeless(meter, prepared, gateway.workers)
            meter.limits_asked = True
            meter.trace.step(Step.LIMITS)
            prepared, meter.admission = await admit(
                prepared,
                principal,
                gateway.limiter,
                gateway.workers,
                gateway.settings,
                meter.caller.request_id,
            )
            meter.prepared = prepared
            meter.standing = meter.admission.standing
            answer.limited(meter.standing)
            run.admitted(About(prepared.adjusted, screened.annotations))
            meter.trace.step(Step.INTENT)
            recording = await record_intent(meter, gateway.audit)
            silence = gateway.settings.inter_token_seconds
            asked: PreparedRequest | None = prepared
            while asked is not None:
                try:
                    async with (
                        route(asked, principal, gateway.workers, meter) as upstream,
                        aclosing(stream(upstream, asked, meter, silence)) as batches,
                    ):
                        async for events in batches:
                            await _show(events, meter, answer, recording)
                            meter.delivered(events)
                except GatewayError:
                    if not stands(asked, meter):
                        raise
                    break
                last, asked = asked, rescue(asked, meter, gateway.workers)
            if gateway.sealer is not None and prepared.seal:
                seals = seal(last, meter, principal.tenant, gateway.sealer, gateway.metrics)
                await _show(seals, meter, answer, recording)
            run.complete(meter.usage, meter.finishes)
    return answer


async def _follow(
    run: Run, call: Call, gateway: Gateway, meter: Meter, interruption: Interruption
) -> Answer:
    """A request that is being answered already. It has its own record, and its tokens are paid by
    the one that was asked."""
    request, principal = _known(meter)
    answer = call.answer(request, principal.policy)
    with run.followed() as news:
        async with call.watch(interruption.interrupt), answer.pulse(lambda: run.waiting()):
            with patience(meter, run.outlives_a_follower, interruption.interrupt):
                meter.trace.attached(run.trace_link)
                meter.trace.step(Step.FOLLOW)
                found = await about(run, news)
                meter.attached = run
                gateway.metrics.pool.attached()
                answer.attached(run.origin.request_id)
                answer.adjusted(found.adjusted)
                answer.annotated(found.domains, in_body=request.annotate)
                meter.limits_asked = True
                await count(meter, gateway.limiter, requests=1)
                answer.limited(meter.standing)
                meter.trace.step(Step.INTENT)
                recording = await record_intent(meter, gateway.audit)
                meter.trace.step(Step.FOLLOW)
                async with aclosing(follow(run, news)) as batches:
                    async for events in batches:
                        await _show(events, meter, answer, recording)
                        meter.delivered(events)
    return answer


def _known(meter: Meter) -> tuple[ChatRequest, Principal]:
    assert meter.request is not None  # noqa: S101 - narrows; it was read
    assert meter.principal is not None  # noqa: S101 - narrows; it was authenticated
    return meter.request, meter.principal


async def _show(
    events: Sequence[Visible], meter: Meter, answer: Answer, recording: Recording
) -> None:
    """To the client, only after what has to be on disk before it; and to those who read along,
    each of whom has a record of its own."""
    meter.trace.said(events)
    written = recording.said(events)
    if meter.run is not None:
        meter.run.publish(events)
    if written is not None:
        await written
    if meter.left is None:
        await answer.send(events)


async def _end(meter: Meter, gateway: Gateway) -> None:
    """What a request owes, however it ended. Raises nothing."""
    meter.trace.step(Step.SETTLE)
    await _settle(meter, gateway)
    learn(meter, gateway.learned, gateway.metrics)
    await _tell(meter, gateway)
    if meter.run is not None:
        meter.run.end(None if meter.error is meter.left else meter.error)


async def _tell(meter: Meter, gateway: Gateway) -> None:
    meter.trace.step(Step.OUTCOME)
    await record_outcome(meter, gateway.audit)
    observe(meter, gateway.metrics)
    end_trace(meter)


async def _settle(meter: Meter, gateway: Gateway) -> None:
    """Nothing that goes wrong here keeps a request from its record and its end."""
    try:
        async with asyncio.timeout(gateway.settings.settle_seconds):
            await settle(meter, gateway.limiter, gateway.settings.cached_token_weight)
    except TimeoutError:
        log.error("settled_late", request_id=meter.caller.request_id)
    except Exception as error:  # noqa: BLE001 - logged, but for its words
        log_crash(meter.caller.request_id, error)


def shutting_down() -> Unavailable:
    return Unavailable(
        "The gateway is shutting down. Please try again.",
        code=SHUTTING_DOWN,
        retry_after_seconds=DRAIN_RETRY_SECONDS,
    )
