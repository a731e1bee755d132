import random

from bench.pool.cache import CHECKPOINT_BLOCKS, PrefixCache


def cache_of(blocks: int = 1_000, *, ends_kept: float = 1.0) -> PrefixCache:
    return PrefixCache(blocks, ends_kept=ends_kept, chance=random.Random(1))


def test_a_conversation_that_goes_on_is_found_up_to_its_last_end() -> None:
    cache = cache_of()
    cache.read(range(10))
    assert cache.find(range(15)) == 10


def test_what_is_only_shared_is_found_by_the_third_that_shares_it() -> None:
    cache = cache_of()
    cache.read([1, 2, 3, 10, 11])
    second = [1, 2, 3, 20, 21]
    assert cache.find(second) == 0
    cache.read(second)
    assert cache.find([1, 2, 3, 30]) == 3


def test_where_no_end_is_kept_a_prompt_is_found_when_it_comes_for_the_third_time() -> None:
    cache = cache_of(ends_kept=0.0)
    found = []
    for _ in range(3):
        found.append(cache.find(range(10)))
        cache.read(range(10))
    assert found == [0, 0, 10]


def test_the_longest_unused_prompt_is_pushed_out_its_end_first() -> None:
    cache = cache_of(20 + 2 * CHECKPOINT_BLOCKS)
    cache.read(range(10))
    cache.read(range(100, 110))
    assert cache.find(range(10)) == 10
    cache.read(range(200, 205))
    assert cache.find(range(10)) == 10
    assert cache.find(range(100, 110)) == 0
