"""Questions to limits in Redis, and what of their answers tests look at."""

from app.limits.shared import SharedLimits
from app.limits.subjects import Decision, Demand, Refusal, Subject


async def decide(limits: SharedLimits, asked: Demand) -> Decision:
    decision = await limits.admit(asked)
    assert isinstance(decision, Decision)
    return decision


async def refused(limits: SharedLimits, asked: Demand) -> Refusal:
    refusal = (await decide(limits, asked)).refusal
    assert refusal is not None
    return refusal


async def admitted(limits: SharedLimits, asked: Demand) -> bool:
    return (await decide(limits, asked)).refusal is None


async def count_budget(
    limits: SharedLimits, subject: Subject, day_tokens: int = 0, month_tokens: int = 0
) -> None:
    began = await limits.begin_recount(subject)
    assert began is not None
    assert await limits.finish_recount(subject, began, day_tokens, month_tokens)
