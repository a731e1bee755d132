"""This replica's share of every limit, for as long as Redis cannot be asked."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from app.limits.subjects import Demand, Subject
from app.store.policy import Limits

MAX_SUBJECTS = 20_000  # of which the budget's rest is remembered; ~0.2 KiB each


class Share:
    """`replicas` as the last heartbeat counted them. `budget_share` is how much of a budget all of
    them together may spend in one outage."""

    def __init__(self, replicas: int, budget_share: float) -> None:
        self.replicas = replicas
        self._budget_share = budget_share
        self._left: OrderedDict[Subject, int] = OrderedDict()

    def saw(self, subjects: Iterable[Subject], budget_left: Iterable[int | None]) -> None:
        """What a budget still holds, while Redis says so."""
        for subject, left in zip(subjects, budget_left, strict=True):
            if left is None:
                continue
            self._left[subject] = left
            self._left.move_to_end(subject)
            if len(self._left) > MAX_SUBJECTS:
                self._left.popitem(last=False)

    def of_demand(self, demand: Demand) -> Demand:
        return replace(demand, subjects=tuple(map(self.of, demand.subjects)))

    def of(self, subject: Subject) -> Subject:
        """The same subject, bound to this replica's share of its limits."""
        limits = subject.limits
        return replace(
            subject,
            limits=Limits(
                requests_per_minute=self._part(limits.requests_per_minute),
                tokens_per_minute=self._part(limits.tokens_per_minute),
                concurrency=self._part(limits.concurrency),
                tokens_per_day=self._allowance(subject),
            ),
        )

    def _part(self, limit: int | None) -> int | None:
        """Never none of it: a limit below the number of replicas is exceeded by them together."""
        return None if limit is None else max(1, limit // self.replicas)

    def _allowance(self, subject: Subject) -> int | None:
        """Of the day's and the month's budget the lower one; not more than was left when Redis was
        last heard."""
        budgets = [
            budget
            for budget in (subject.limits.tokens_per_day, subject.limits.tokens_per_month)
            if budget is not None
        ]
        if not budgets:
            return None
        allowed = min(budgets) * self._budget_share
        left = self._left.get(subject)
        if left is not None:
            allowed = min(allowed, left)
        return max(1, int(allowed / self.replicas))
