"""What enforces limits: Redis for all replicas, or this process alone."""

from collections.abc import Mapping
from typing import Protocol

from app.limits.subjects import Decision, Demand, Settled, Spending, Subject, Uncounted


class LimitsUnavailable(Exception):
    """Redis did not answer in time, or not as it should. The text is for the log."""


class Enforcer(Protocol):
    """Every call is one atomic step, and may raise LimitsUnavailable."""

    async def admit(self, demand: Demand) -> Decision | Uncounted:
        """Takes all that is demanded, or nothing. Asked twice with the same request id, it takes
        once."""

    async def settle(self, demand: Demand, spending: Spending) -> Settled:
        """Replaces what was reserved by what was used. A second time changes nothing."""

    async def renew(self, subject: Subject, holds: Mapping[str, int]) -> None:
        """Keeps the leases of running requests, by id with the tokens that each holds."""

    async def begin_recount(self, subject: Subject, *, patient: bool = False) -> float | None:
        """The moment (seconds since the epoch) up to which the audit log has to be summed up, or
        None while somebody else does that. One that is not `patient` takes the place of one that
        is."""

    async def finish_recount(
        self, subject: Subject, began: float, day_tokens: int, month_tokens: int
    ) -> bool:
        """False where the recount came too late and has to be done again."""

    async def abandon_recount(self, subject: Subject, began: float) -> None:
        """It will not be finished: another one may begin at once."""
