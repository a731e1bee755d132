"""Who is next, among those that wait for a worker. No I/O and no clock.

There is a line for each priority, and in it one for prompts that are short and one for those that
are long, as they wait for different things. A line is fair between tenants: the one that has been
given the fewest tokens is next, whatever it has waiting. That is what deficit round robin comes to
over its rounds; as an order it can be looked through, for whoever is first need not be one for whom
there is room, and it tells each its place.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from app.store.policy import Priority

# Of each line, for whom room is looked for: a longer look would cost more than a place is worth.
SCANNED = 64
# While batch waits, every eighth turn is its own.
INTERACTIVE_TURNS = 7
# Each request is charged so much beside its prompt: also one that is all in a cache holds a stream.
REQUEST_TOKENS = 1_000
# A tenant whose requests found no room, as they need a worker that others do not, does not take
# over its line once they do: it makes up for four prompts as long as the line's longest.
LAG_PROMPTS = 4

Item = TypeVar("Item")


class QueueFull(Exception):
    """There are as many as may wait, and none of them has less right to its place."""


@dataclass(slots=True, eq=False)
class Ticket(Generic[Item]):
    """One place in the queue. `overtaken` says how many that came behind it were served first."""

    item: Item
    tenant: str
    priority: Priority
    long: bool
    cost_tokens: int
    number: int
    overtaken: int = 0
    waiting: bool = True


class Place(NamedTuple):
    place: int  # in its line: 1 is the next
    work_before: int  # of those before it


class _Share(Generic[Item]):
    """What one tenant has in a line, in the order in which it came."""

    __slots__ = ("given_tokens", "tickets")

    def __init__(self, given_tokens: int) -> None:
        self.given_tokens = given_tokens
        self.tickets: dict[int, Ticket[Item]] = {}

    def order(self, least_tokens: int) -> Iterator[tuple[int, int, Ticket[Item]]]:
        """Each with what the tenant will have been given when it is its turn."""
        given = max(self.given_tokens, least_tokens)
        for ticket in self.tickets.values():
            yield given, ticket.number, ticket
            given += ticket.cost_tokens


class _Line(Generic[Item]):
    def __init__(self, lag_tokens: int) -> None:
        self._lag_tokens = lag_tokens
        self._shares: dict[str, _Share[Item]] = {}
        self._given_tokens = 0  # to the tenant that was served last, before that
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, ticket: Ticket[Item]) -> None:
        share = self._shares.get(ticket.tenant)
        if share is None:
            share = self._shares[ticket.tenant] = _Share(self._given_tokens)
        elif not share.tickets:  # nobody saves up while it asks for nothing
            share.given_tokens = max(share.given_tokens, self._given_tokens)
        share.tickets[ticket.number] = ticket
        self._waiting += 1

    def remove(self, ticket: Ticket[Item], *, served: bool) -> None:
        share = self._shares[ticket.tenant]
        del share.tickets[ticket.number]
        self._waiting -= 1
        if served:
            given = max(share.given_tokens, self._least())
            self._given_tokens = max(self._given_tokens, given)
            share.given_tokens = given + ticket.cost_tokens
        if not self._waiting:
            self._shares.clear()  # nobody waits, so nobody is owed anything
        elif not share.tickets and share.given_tokens <= self._given_tokens:
            del self._shares[ticket.tenant]

    def counts(self) -> Iterator[tuple[str, int]]:
        """How many each tenant has."""
        return ((tenant, len(share.tickets)) for tenant, share in self._shares.items())

    def count(self, tenant: str) -> int:
        share = self._shares.get(tenant)
        return len(share.tickets) if share is not None else 0

    def newest(self, tenant: str) -> Ticket[Item] | None:
        share = self._shares.get(tenant)
        return next(reversed(share.tickets.values()), None) if share is not None else None

    def order(self) -> Iterator[Ticket[Item]]:
        """All that wait, the next one first."""
        least = self._least()
        for _, _, ticket in heapq.merge(*(s.order(least) for s in self._shares.values())):
            yield ticket

    def _least(self) -> int:
        return self._given_tokens - self._lag_tokens


class FairQueue(Generic[Item]):
    """At most `limit` wait. `long_tokens` and `longest_tokens` are those of the longest prompt that
    is a short one, and of any."""

    def __init__(self, limit: int, *, long_tokens: int, longest_tokens: int) -> None:
        self._limit = limit
        lags = {
            long: LAG_PROMPTS * (tokens + REQUEST_TOKENS)
            for long, tokens in ((False, long_tokens), (True, longest_tokens))
        }
        self._lines: dict[tuple[Priority, bool], _Line[Item]] = {
            (priority, long): _Line(lags[long]) for priority in Priority for long in lags
        }
        self._number = 0
        self._waiting = dict.fromkeys(Priority, 0)
        self._interactive_turns = 0  # since the last one of batch, while it waits

    def __len__(self) -> int:
        return sum(self._waiting.values())

    def waiting(self, priority: Priority) -> int:
        return self._waiting[priority]

    @property
    def fullness(self) -> float:
        """From 0 to 1."""
        return len(self) / self._limit if self._limit else 1.0

    def push(
        self, item: Item, *, tenant: str, priority: Priority, long: bool, cold_tokens: int
    ) -> tuple[Ticket[Item], Ticket[Item] | None]:
        """Its ticket, and the one that has lost its place to it, if the queue was full: a flood
        fills the queue with its own requests only. Raises QueueFull."""
        lost = None
        if len(self) >= self._limit:
            lost = self._loser(tenant, priority)
            if lost is None:
                raise QueueFull
            self.leave(lost)
        self._number += 1
        cost = cold_tokens + REQUEST_TOKENS
        ticket = Ticket(item, tenant, priority, long, cost, self._number)
        self._lines[priority, long].add(ticket)
        self._waiting[priority] += 1
        return ticket, lost

    def _loser(self, tenant: str, priority: Priority) -> Ticket[Item] | None:
        """The newest one of the tenant that has the most: of the other priority where that has more
        than its share and this one less, else of the same, if that tenant has more than this one
        will have."""
        other = Priority.BATCH if priority is Priority.INTERACTIVE else Priority.INTERACTIVE
        owed = self._waiting[priority] < self._share(priority)
        if owed and self._waiting[other] > self._share(other):
            return self._newest_of_most(other, more_than=0)
        return self._newest_of_most(priority, more_than=self._count(tenant, priority) + 1)

    def _share(self, priority: Priority) -> int:
        """Of the queue: as of the turns."""
        batch = self._limit // (INTERACTIVE_TURNS + 1)
        return batch if priority is Priority.BATCH else self._limit - batch

    def _newest_of_most(self, priority: Priority, *, more_than: int) -> Ticket[Item] | None:
        counts: dict[str, int] = {}
        for long in (False, True):
            for tenant, count in self._lines[priority, long].counts():
                counts[tenant] = counts.get(tenant, 0) + count
        most = max(counts, key=lambda tenant: counts[tenant], default=None)
        if most is None or counts[most] <= more_than:
            return None
        newest = (self._lines[priority, long].newest(most) for long in (False, True))
        return max((t for t in newest if t is not None), key=lambda ticket: ticket.number)

    def _count(self, tenant: str, priority: Priority) -> int:
        return sum(self._lines[priority, long].count(tenant) for long in (False, True))

    def serve(self, ticket: Ticket[Item]) -> None:
        """It got its turn, and its tenant is charged for it."""
        if ticket.priority is Priority.BATCH:
            self._interactive_turns = 0
        elif self._waiting[Priority.BATCH]:
            self._interactive_turns += 1
        self._remove(ticket, served=True)

    def leave(self, ticket: Ticket[Item]) -> None:
        """It waits no longer, and got nothing. Again, it changes nothing."""
        if ticket.waiting:
            self._remove(ticket, served=False)

    def _remove(self, ticket: Ticket[Item], *, served: bool) -> None:
        ticket.waiting = False
        self._waiting[ticket.priority] -= 1
        self._lines[ticket.priority, ticket.long].remove(ticket, served=served)

    def candidates(self) -> Iterator[Ticket[Item]]:
        """Those that may have the next turn, in that order, SCANNED of each line. Not to be gone on
        with after the queue has changed."""
        for priority in self._priorities():
            lines = (self._lines[priority, False], self._lines[priority, True])
            heads = [(next(line.order()).number, line) for line in lines if len(line)]
            # Of short and long ones the line that waits longer; neither waits behind the other.
            for _, line in sorted(heads, key=_number):
                yield from islice(line.order(), SCANNED)

    def order(self) -> Iterator[Ticket[Item]]:
        """All that wait, line by line."""
        for line in self._lines.values():
            yield from line.order()

    def places(self, work_of: Callable[[Item], int]) -> dict[int, Place]:
        """Where each stands, by the number of its ticket."""
        found: dict[int, Place] = {}
        for line in self._lines.values():
            work = 0
            for place, ticket in enumerate(line.order(), start=1):
                found[ticket.number] = Place(place, work)
                work += work_of(ticket.item)
        return found

    def _priorities(self) -> tuple[Priority, Priority]:
        if self._interactive_turns >= INTERACTIVE_TURNS:
            return Priority.BATCH, Priority.INTERACTIVE
        return Priority.INTERACTIVE, Priority.BATCH


def _number(head: tuple[int, object]) -> int:
    return head[0]
