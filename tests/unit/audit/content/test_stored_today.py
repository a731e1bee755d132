"""What is known to be stored, and until when."""

from app.audit.content.stored_today import SECONDS_PER_DAY, Marks, StoredToday

DAY = 20_000


def address(number: int) -> bytes:
    return number.to_bytes(32, "big")


def marks(day: int, *addresses: bytes) -> Marks:
    return Marks(day, tuple((one, one) for one in addresses))


def has(known: StoredToday, day: int, one: bytes) -> bool:
    found = known.address_of(day, one)
    assert found in (None, one)
    return found is not None


class Clock:
    def __init__(self) -> None:
        self.now = DAY * SECONDS_PER_DAY + 1.0

    def __call__(self) -> float:
        return self.now


def test_only_what_was_marked_is_known() -> None:
    known = StoredToday(10, Clock())
    assert not has(known, DAY, address(1))
    known.mark(marks(DAY, address(1)))
    assert has(known, DAY, address(1))
    assert not has(known, DAY, address(2))


def test_the_next_day_knows_nothing_of_the_day_before() -> None:
    clock = Clock()
    known = StoredToday(10, clock)
    known.mark(marks(DAY, address(1)))
    clock.now += SECONDS_PER_DAY
    assert known.today() == DAY + 1
    assert not has(known, DAY + 1, address(1))


def test_a_mark_that_comes_after_midnight_is_dropped() -> None:
    clock = Clock()
    known = StoredToday(10, clock)
    clock.now += SECONDS_PER_DAY
    assert not has(known, known.today(), address(1))
    known.mark(marks(DAY, address(1)))
    assert not has(known, DAY + 1, address(1))
    assert not has(known, DAY, address(1))


def test_a_clock_that_is_set_back_brings_no_day_back() -> None:
    clock = Clock()
    known = StoredToday(10, clock)
    known.mark(marks(DAY, address(1)))
    known.mark(marks(DAY + 1, address(2)))
    assert not has(known, DAY, address(1))
    assert has(known, DAY + 1, address(2))


def test_the_latest_half_of_its_entries_is_never_forgotten() -> None:
    known = StoredToday(10, Clock())
    for number in range(100):
        known.mark(marks(DAY, address(number)))
        assert all(has(known, DAY, address(n)) for n in range(max(0, number - 4), number + 1))


def test_what_is_asked_for_stays_known() -> None:
    known = StoredToday(10, Clock())
    known.mark(marks(DAY, address(0)))
    for number in range(1, 100):
        known.mark(marks(DAY, address(number)))
        assert has(known, DAY, address(0))


def test_it_does_not_grow_beyond_its_entries() -> None:
    known = StoredToday(10, Clock())
    known.mark(marks(DAY, *map(address, range(1_000))))
    assert sum(has(known, DAY, address(number)) for number in range(1_000)) <= 10


def test_a_message_is_known_by_what_was_sent_and_gives_what_is_stored() -> None:
    known = StoredToday(10, Clock())
    known.mark(Marks(DAY, ((address(1), address(2)),)))
    assert known.address_of(DAY, address(1)) == address(2)
    assert known.address_of(DAY, address(2)) is None
