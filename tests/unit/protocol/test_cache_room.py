"""Which prompts a worker is taken to have room for."""

from app.protocol.cache_room import MAX_PROMPTS, PROMPTS_SHARE, CacheRoom, Ends

CAPACITY_TOKENS = 1_000
MOST = int(PROMPTS_SHARE * CAPACITY_TOKENS)


def room_for(capacity_tokens: int | None = CAPACITY_TOKENS) -> CacheRoom:
    room = CacheRoom()
    room.capacity_tokens = capacity_tokens
    return room


def prompt(*ends: int) -> Ends:
    return tuple((end, 100 * at) for at, end in enumerate(ends, start=1))


def take(room: CacheRoom, ends: Ends, tokens: int) -> list[Ends]:
    return list(room.take(ends, ends[-1][1], tokens))


def test_the_longest_unused_prompts_make_room() -> None:
    room = room_for()
    first, second, third = prompt(1), prompt(2), prompt(3)
    assert take(room, first, MOST // 2) == []
    assert take(room, second, MOST // 2) == []
    assert take(room, first, MOST // 2) == []  # used again
    assert take(room, third, MOST // 2) == [second]


def test_a_conversation_that_goes_on_takes_no_more_than_its_last_prompt() -> None:
    room = room_for()
    other = prompt(9)
    assert take(room, other, MOST // 4) == []
    for turns in range(1, 4):
        assert take(room, prompt(*range(1, turns + 1)), turns * MOST // 4) == []
    assert take(room, prompt(1, 2, 3, 4), MOST) == [other]


def test_of_two_that_begin_alike_what_they_share_counts_once() -> None:
    room = room_for()
    assert take(room, prompt(1), MOST // 2) == []
    assert take(room, prompt(1, 2), MOST) == []


def test_one_that_is_too_large_is_taken_to_be_there_alone() -> None:
    room = room_for()
    assert take(room, prompt(1), 10) == []
    assert take(room, prompt(2), 10 * CAPACITY_TOKENS) == [prompt(1)]
    assert take(room, prompt(3), 10) == [prompt(2)]


def test_of_a_worker_that_does_not_say_how_much_it_holds_nothing_is_pushed_out() -> None:
    room = room_for(None)
    for number in range(100):
        assert take(room, prompt(number), CAPACITY_TOKENS) == []


def test_no_more_prompts_are_kept_than_may_be() -> None:
    room = room_for()
    for number in range(MAX_PROMPTS):
        assert take(room, prompt(number), 0) == []
    assert take(room, prompt(MAX_PROMPTS), 0) == [prompt(0)]
