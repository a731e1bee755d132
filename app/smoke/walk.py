"""The walk: step by step, until one breaks."""

from collections.abc import AsyncGenerator, Awaitable
from dataclasses import replace

from app.smoke.climb import climb
from app.smoke.failures import AskFailed, advice_for
from app.smoke.first_steps import STEPS
from app.smoke.progress import Display
from app.smoke.reach import reach, reached
from app.smoke.result import Result, Status
from app.smoke.rungs import rungs
from app.smoke.target import Target
from app.smoke.visit import Options, Visit


async def walk(target: Target, options: Options, display: Display) -> AsyncGenerator[Result, None]:
    """Each step's result as it is known; the last one may have failed. Raises CannotStart before
    the first. Who stops early closes the iterator, and with it what runs."""
    deployment = await reach(target, options)
    yield reached(target, deployment)
    visit = Visit(target, deployment, options, display)
    for name, step in STEPS:
        result = await _attempted(name, step(visit), options)
        yield result
        if result.status is Status.FAILED:
            return
    context, room = deployment.context_tokens, visit.answer_tokens
    for rung in rungs(options.first_tokens, context, options.max_tokens, room):
        if rung.prompt_tokens is None:
            yield Result(rung.name, Status.SKIPPED, rung.reason)
            continue
        result = await _attempted(rung.name, climb(rung, visit), options)
        yield result
        if result.status is Status.FAILED:
            return


async def _attempted(name: str, step: Awaitable[Result], options: Options) -> Result:
    try:
        result = await step
    except AskFailed as failure:
        return Result(name, Status.FAILED, failure.words, advice_for(failure))
    if options.strict and result.status is Status.WARNING:
        return replace(result, status=Status.FAILED)
    return result
