"""All checks, at once: what hangs holds up nothing else, and what breaks says so."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from app.doctor import checkpoints, configured, database, machine, redis, rules, spool, workers
from app.doctor.finding import Finding, failed
from app.doctor.in_thread import in_thread
from app.doctor.visit import Visit
from app.telemetry.line_masks import mask_line

# Of a file that compiles for longer, `serve` would not start in time either.
RULES_SECONDS = 60.0

Check = Callable[[Visit], Awaitable[Sequence[Finding]]]


async def examine(visit: Visit) -> list[Finding]:
    """In a fixed order. Raises nothing; no secret of the settings is in what it says."""
    at_once: tuple[tuple[str, Check], ...] = (
        ("settings", _blocking(configured.check)),
        ("machine", _blocking(machine.check)),
        ("database", database.check),
        ("redis", redis.check),
        ("spool", _blocking(spool.check)),
        ("checkpoints", _blocking(checkpoints.check)),
    )
    parts = await asyncio.gather(
        *(_guarded(name, check, visit, visit.seconds) for name, check in at_once),
        # To find them may take a name server as long as a check.
        _guarded("workers", _workers, visit, visit.seconds + _worker_seconds(visit)),
    )
    # By itself: compiling them takes the processor for seconds, and others look slow meanwhile.
    # It waits for nobody, so its time is not that of the others.
    parts.append(await _guarded("rules", _blocking(rules.check), visit, RULES_SECONDS))
    return [_without_secrets(finding) for part in parts for finding in part]


async def _workers(visit: Visit) -> Sequence[Finding]:
    """Each by itself: one that is away costs the others nothing."""
    found, findings = await workers.find(visit)
    seconds = _worker_seconds(visit)
    parts = await asyncio.gather(
        *(
            _guarded(f"worker {worker.name}", partial(workers.check, worker), visit, seconds)
            for worker in found
        )
    )
    return [*findings, *(finding for part in parts for finding in part)]


def _worker_seconds(visit: Visit) -> float:
    questions = workers.QUESTIONS if visit.asks_workers else 0
    return workers.STEPS * visit.seconds + questions * visit.settings.worker_check_seconds


async def _guarded(name: str, check: Check, visit: Visit, seconds: float) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(seconds):
            return await check(visit)
    except TimeoutError:
        return [failed(name, f"no answer within {seconds:g} s", "is it there, and not overloaded?")]
    except Exception as error:  # noqa: BLE001 - a check that breaks may not hide what the others found
        # Without its words: they may quote a secret.
        return [failed(name, f"the check itself broke: {type(error).__name__}", None)]


def _blocking(check: Callable[[Visit], Sequence[Finding]]) -> Check:
    async def run(visit: Visit) -> Sequence[Finding]:
        return await in_thread(partial(check, visit))

    return run


def _without_secrets(finding: Finding) -> Finding:
    """What drivers and servers say is theirs to choose."""
    advice = None if finding.advice is None else _masked(finding.advice)
    return replace(finding, found=_masked(finding.found), advice=advice)


def _masked(text: str) -> str:
    return mask_line(" ".join(text.split()).encode()).decode()
