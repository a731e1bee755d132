"""Who has no request left, and until when: to be refused without asking anybody, and without having
read anything of the request."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from app.limits.refusals import limit_reached
from app.limits.subjects import Refusal, Scope, Standing, Subject

MAX_SUBJECTS = 10_000  # ~0.5 KiB each; the others are refused by who enforces


class Emptied:
    """`clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[Subject, tuple[float, Refusal, Standing]] = {}

    def note(self, refusal: Refusal, standing: Standing) -> None:
        """Only time brings requests back, so that this one stands until it has."""
        if refusal.scope is not Scope.REQUESTS or refusal.wait_seconds is None:
            return
        self._until[refusal.subject] = self._clock() + refusal.wait_seconds, refusal, standing
        if len(self._until) > MAX_SUBJECTS:
            del self._until[next(iter(self._until))]

    def check(self, subjects: Iterable[Subject]) -> None:
        """Raises LimitReached. A limit that was changed meanwhile has to be asked about."""
        for subject in subjects:
            noted = self._until.get(subject)
            if noted is None:
                continue
            until, refusal, standing = noted
            wait = until - self._clock()
            if wait <= 0 or refusal.limit != subject.limits.requests_per_minute:
                del self._until[subject]
            else:
                raise limit_reached(replace(refusal, wait_seconds=wait), standing)
