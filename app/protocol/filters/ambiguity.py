"""In how many ways a pattern may go through one text, which is what it may cost an engine that
backtracks.

An engine that fails late tries every way that leads there. We bound the number of ways without
running it. Each part of a pattern has a `Cost`: the steps that it may take from one start, and the
number of ways in which it may end, each of which goes on into what follows. Whether there is more
than one way is decided by the next character: a repeat that can go on or stop at the same character
has as many ends as it has lengths; one whose next character tells has one.

Where that says that a repeat of something multiplies, we look closer: the characters of its body
become the states of an automaton in which every repeat is a loop, and pairs of them are followed
along one text. Two ways that part and meet again make the pattern exponential; if there are none,
each state is reached in at most one way, and the repeat costs no more than its length.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, chain

# At one start. `regex` needs at most 15 ns each where it takes them all, so about a millisecond.
MAX_STEPS = 100_000
# Larger loops are taken to be ambiguous: following their pairs would take more than 100 ms.
MAX_STATES = 400
MAX_PAIR_STEPS = 500_000
# Options of alternations, looked at once for every character that they share: 500 phrases need some
# 10,000. Beyond it they are taken to match all at once.
MAX_VISITS = 40_000
_MANY = 10**12  # counts stop here: the numbers would have thousands of digits


@dataclass(frozen=True, slots=True)
class Atom:
    """A character, or a class of them, written so that `regex` reads it; `points` are the
    characters beyond ASCII where its ranges begin and end."""

    text: str
    flags: int
    points: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    options: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    body: "Node"
    least: int
    most: int


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Looks at what stands there and takes nothing; `ahead`, or else behind."""

    body: "Node"
    ahead: bool


@dataclass(frozen=True, slots=True, eq=False)
class Atomic:
    """Keeps the first way that it finds."""

    body: "Node"


Node = Atom | Series | Choice | Repeat | Look | Atomic


@dataclass(frozen=True, slots=True)
class Extent:
    """In characters: the fewest and the most that are taken; how far it reaches from where it
    begins, with what it looks at; how far it looks back from there, or from within."""

    least: int
    most: int
    reach: int
    behind: int


def extent(node: Node) -> Extent:
    if isinstance(node, Atom):
        return Extent(1, 1, 1, 0)
    if isinstance(node, Series | Choice):
        return _extent_of_all(node)
    body = extent(node.body)
    if isinstance(node, Atomic):
        return body
    if isinstance(node, Repeat):
        reach = body.most * max(node.most - 1, 0) + body.reach
        return Extent(body.least * node.least, body.most * node.most, reach, body.behind)
    if node.ahead:
        return Extent(0, 0, body.reach, body.behind)
    return Extent(0, 0, max(body.reach - body.least, 0), body.least + body.behind)


def _extent_of_all(node: Series | Choice) -> Extent:
    parts = [extent(part) for part in _parts(node)]
    behind = max((part.behind for part in parts), default=0)
    least, most = [part.least for part in parts], [part.most for part in parts]
    if isinstance(node, Choice):
        return Extent(min(least), max(most), max(part.reach for part in parts), behind)
    starts = accumulate(most, initial=0)
    reach = max((start + part.reach for start, part in zip(starts, parts, strict=False)), default=0)
    return Extent(sum(least), sum(most), reach, behind)


def _parts(node: Series | Choice) -> "tuple[Node, ...]":
    return node.parts if isinstance(node, Series) else node.options


def atoms(node: Node) -> Iterator[Atom]:
    if isinstance(node, Atom):
        yield node
    elif isinstance(node, Choice | Series):
        for part in _parts(node):
            yield from atoms(part)
    else:
        yield from atoms(node.body)


def beginnings(node: Node) -> Iterator[Atom]:
    """The atoms that may take the first character."""
    if isinstance(node, Atom):
        yield node
    elif isinstance(node, Choice | Series):
        for part in _parts(node):
            yield from beginnings(part)
            if isinstance(node, Series) and extent(part).least:
                return
    elif not isinstance(node, Look):
        yield from beginnings(node.body)


@dataclass(frozen=True, slots=True)
class Cost:
    steps: int
    ends: int


# An option of an alternation: the letters of the atoms that it begins with, the cost of the rest.
Option = tuple[tuple[int, ...], Cost]


@dataclass(frozen=True, slots=True)
class Next:
    """What may come next: the characters (a bit each); whether it may be nothing; whether something
    is looked at first, so that the character alone does not tell."""

    letters: int = 0
    empty: bool = True
    looks: bool = False

    def then(self, later: "Next") -> "Next":
        if not self.empty:
            return self
        return Next(self.letters | later.letters, later.empty, self.looks or later.looks)

    def either(self, other: "Next") -> "Next":
        return Next(
            self.letters | other.letters, self.empty or other.empty, self.looks or other.looks
        )


class Backtracking:
    """The cost of one pattern. `letters` gives the characters of its atoms, a bit for every kind
    of character that the atoms of this pattern tell apart."""

    def __init__(self, letters: Mapping[Atom, int]) -> None:
        self._letters = letters
        self.exponential: Repeat | None = None  # the first, from within, that is too dear
        self._visits = 0

    def cost(self, node: Node, after: Next = Next()) -> Cost:
        """`after` is what may follow; where nothing does, the first end is the match."""
        if isinstance(node, Atom):
            return Cost(1, 1)
        if isinstance(node, Look | Atomic):
            return Cost(self.cost(node.body).steps + 1, 1)
        if isinstance(node, Repeat):
            return self._repeat(node, after)
        if isinstance(node, Choice):
            return self._choice(node, after)
        total = Cost(0, 1)
        for part in reversed(node.parts):
            cost = self.cost(part, after)
            total = Cost(
                min(cost.steps + cost.ends * total.steps, _MANY), min(cost.ends * total.ends, _MANY)
            )
            after = self.first(part).then(after)
        return total

    def first(self, node: Node) -> Next:
        if isinstance(node, Atom):
            return Next(self._letters[node], empty=False)
        if isinstance(node, Look):
            return Next(looks=True)
        if isinstance(node, Atomic):
            return self.first(node.body)
        if isinstance(node, Repeat):
            first = self.first(node.body) if node.most else Next()
            return Next(first.letters, first.empty or not node.least, first.looks)
        if isinstance(node, Choice):
            return reduce(Next.either, map(self.first, node.options))
        result = Next()
        for part in node.parts:
            if not result.empty:
                break
            result = result.then(self.first(part))
        return result

    def _repeat(self, node: Repeat, after: Next) -> Cost:
        if not node.most:
            return Cost(1, 1)
        first = self.first(node.body)
        body = self.cost(node.body, after.either(first) if node.most > 1 else after)
        may_stop = node.least < node.most and bool(
            first.letters & after.letters or first.empty or after.looks
        )
        starts, ends, ways = 0, 0, 1
        for times in range(node.most):
            if may_stop and times >= node.least:
                ends += ways
            starts = min(starts + ways, _MANY)
            ways = min(ways * body.ends, _MANY)
        ends = min(ends + ways, _MANY)
        if body.ends > 1 and node.most > 1:
            if not Loop(node, self._letters).is_ambiguous():
                whole = extent(node)
                starts = min(starts, whole.most + 1)
                ends = min(ends, whole.most - whole.least + 1)
            elif starts * body.steps > MAX_STEPS:
                self.exponential = self.exponential or node
        return Cost(min(starts * (body.steps + 1) + 1, _MANY), ends)

    def _choice(self, node: Choice, after: Next) -> Cost:
        """Options count together as far as one text may begin them all."""
        options = []
        for option in node.options:
            beginning = tuple(self._beginning(option))
            cost = self.cost(option, after)
            options.append((beginning, Cost(max(cost.steps - len(beginning), 0), cost.ends)))
        return self._worst(options, 0)

    def _worst(self, options: Sequence[Option], depth: int) -> Cost:
        """The dearest text for options that read the same text up to `depth`."""
        steps, ends = 0, 0
        while len(options) > 1 and self._visits < MAX_VISITS:
            self._visits += len(options)
            steps += len(options)
            groups, ended = _parted(options, depth)
            steps += sum(cost.steps for cost in ended)
            ends += sum(cost.ends for cost in ended)
            depth += 1
            if len(groups) != 1:
                deeper = [self._worst(group, depth) for group in groups]
                steps += max((cost.steps for cost in deeper), default=0)
                ends += max((cost.ends for cost in deeper), default=0)
                return Cost(min(steps, _MANY), min(ends, _MANY))
            options = groups[0]
        rest = _added(options)
        return Cost(min(steps + rest.steps, _MANY), min(ends + rest.ends, _MANY))

    def _beginning(self, node: Node) -> Iterator[int]:
        for part in node.parts if isinstance(node, Series) else (node,):
            if not isinstance(part, Atom):
                return
            yield self._letters[part]


def _parted(options: Sequence[Option], depth: int) -> tuple[list[list[Option]], list[Cost]]:
    """Those that go on, together with those that read the same letter; and the cost of the rest."""
    by_letter: defaultdict[int, list[Option]] = defaultdict(list)
    ended = []
    for option in options:
        beginning, cost = option
        if depth == len(beginning):
            ended.append(cost)
        else:
            for letter in _bits(beginning[depth]):
                by_letter[letter].append(option)
    groups = {tuple(map(id, group)): group for group in by_letter.values()}
    return list(groups.values()), ended


def _added(options: Sequence[Option]) -> Cost:
    return Cost(
        min(sum(len(beginning) + cost.steps for beginning, cost in options), _MANY),
        min(sum(cost.ends for _, cost in options), _MANY),
    )


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest
        mask ^= lowest


class Loop:
    """A repeat as an automaton: a state for each atom within it, entered by reading it, and every
    repeat in it a loop, however often it may be taken."""

    def __init__(self, node: Repeat, letters: Mapping[Atom, int]) -> None:
        self._letters = letters
        self._reads: list[int] = []
        self._goes: list[set[int]] = []
        self._ambiguous = False  # two ways on from one state to one state, or over nothing
        first, last, empty = self._add(node.body)
        self._ambiguous = self._ambiguous or empty
        self._link(last, first)

    def is_ambiguous(self) -> bool:
        """Whether the ways through it grow in number with every turn, or it was too dear to find
        out. If not, one way at most ends at any one place of a text: two would go on as one."""
        too_large = len(self._reads) > MAX_STATES
        return self._ambiguous or too_large or self._ways_part_and_meet()

    def _ways_part_and_meet(self) -> bool:
        """Every state is on the loop, so ways that meet come round to where they parted."""
        seen: set[tuple[int, int]] = set()
        waiting = [(state, state) for state in range(len(self._reads))]
        steps = 0
        while waiting:
            left, right = waiting.pop()
            steps += len(self._goes[left]) * len(self._goes[right])
            if steps > MAX_PAIR_STEPS or (
                left != right and not self._goes[left].isdisjoint(self._goes[right])
            ):
                return True
            for one in self._goes[left]:
                for other in self._goes[right]:
                    pair = (one, other) if one < other else (other, one)
                    if pair in seen or one == other:
                        continue
                    if self._reads[one] & self._reads[other]:
                        seen.add(pair)
                        waiting.append(pair)
        return False

    def _link(self, sources: list[int], targets: list[int]) -> None:
        if len(self._reads) > MAX_STATES:
            return
        for source in sources:
            goes = self._goes[source]
            for target in targets:
                self._ambiguous = self._ambiguous or target in goes
                goes.add(target)

    def _add(self, node: Node) -> tuple[list[int], list[int], bool]:
        """The states that it begins with and ends with, and whether it may be empty."""
        if isinstance(node, Atom):
            self._reads.append(self._letters[node])
            self._goes.append(set())
            return [len(self._reads) - 1], [len(self._reads) - 1], False
        if isinstance(node, Look):
            return [], [], True
        if isinstance(node, Atomic):
            return self._add(node.body)
        if isinstance(node, Repeat):
            return self._add_repeat(node)
        if isinstance(node, Choice):
            firsts, lasts, empties = zip(*map(self._add, node.options), strict=True)
            self._ambiguous = self._ambiguous or sum(empties) > 1
            return list(chain(*firsts)), list(chain(*lasts)), any(empties)
        return self._add_series(node)

    def _add_repeat(self, node: Repeat) -> tuple[list[int], list[int], bool]:
        if not node.most:
            return [], [], True
        first, last, empty = self._add(node.body)
        if empty and (node.most > 1 or not node.least):
            self._ambiguous = True
        if node.most > 1:
            self._link(last, first)
        return first, last, empty or not node.least

    def _add_series(self, node: Series) -> tuple[list[int], list[int], bool]:
        first: list[int] = []
        last: list[int] = []
        empty = True
        for part in node.parts:
            part_first, part_last, part_empty = self._add(part)
            self._link(last, part_first)
            if empty:
                first = first + part_first
            last = last + part_last if part_empty else part_last
            empty = empty and part_empty
        return first, last, empty
