from app.store.api_key import ApiKey
from app.store.key_cache import Answer, KeyCache
from app.store.policy import Policy


def key(name: str) -> ApiKey:
    return ApiKey(id=name, tenant="default", name=name, policy=Policy())


def test_an_answer_is_given_until_it_is_as_old_as_the_cache_allows() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"a", Answer(key("a"), asked_at=100.0))
    found = cache.get(b"a", 104.9)
    assert found is not None
    assert found.key == key("a")
    assert cache.get(b"a", 105.0) is None


def test_age_counts_from_the_question_and_not_from_the_answer() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"a", Answer(key("a"), asked_at=100.0))  # which came at 103, say
    assert cache.get(b"a", 106.0) is None


def test_a_digest_that_opens_nothing_is_remembered_too() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"x", Answer(None, asked_at=100.0))
    assert cache.get(b"x", 101.0) == Answer(None, 100.0)


def test_a_flood_of_strangers_evicts_no_key() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"a", Answer(key("a"), asked_at=0.0))
    for number in range(1000):
        cache.put(b"stranger %d" % number, Answer(None, asked_at=0.0))
    assert cache.get(b"a", 1.0) is not None
    assert cache.get(b"stranger 0", 1.0) is None
    assert cache.get(b"stranger 999", 1.0) is not None


def test_the_key_used_longest_ago_makes_room() -> None:
    cache = KeyCache(seconds=5, entries=2)
    cache.put(b"a", Answer(key("a"), asked_at=0.0))
    cache.put(b"b", Answer(key("b"), asked_at=0.0))
    cache.get(b"a", 1.0)
    cache.put(b"c", Answer(key("c"), asked_at=0.0))
    assert cache.get(b"b", 1.0) is None
    assert cache.get(b"a", 1.0) is not None


def test_a_key_that_stopped_being_one_is_no_longer_found() -> None:
    cache = KeyCache(seconds=5, entries=2)
    cache.put(b"a", Answer(key("a"), asked_at=0.0))
    cache.put(b"a", Answer(None, asked_at=6.0))
    assert cache.get(b"a", 7.0) == Answer(None, 6.0)
    assert not cache.has_opened(b"a")


def test_forgetting_a_key_drops_all_of_its_secrets_and_no_other() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"old", Answer(key("a"), asked_at=0.0))
    cache.put(b"new", Answer(key("a"), asked_at=0.0))
    cache.put(b"b", Answer(key("b"), asked_at=0.0))
    cache.forget("a")
    assert cache.get(b"old", 1.0) is None
    assert cache.get(b"new", 1.0) is None
    assert cache.get(b"b", 1.0) is not None


def test_an_old_key_still_counts_as_one_that_has_opened() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"a", Answer(key("a"), asked_at=0.0))
    assert cache.get(b"a", 100.0) is None
    assert cache.has_opened(b"a")


def test_an_outdated_key_is_asked_about_again_and_has_still_opened() -> None:
    cache = KeyCache(seconds=5, entries=10)
    cache.put(b"old", Answer(key("a"), asked_at=0.0))
    cache.put(b"new", Answer(key("a"), asked_at=0.0))
    cache.put(b"b", Answer(key("b"), asked_at=0.0))
    cache.put(b"x", Answer(None, asked_at=0.0))
    cache.outdate(lambda key: key.id == "a")
    assert [cache.get(digest, 1.0) is None for digest in (b"old", b"new", b"b", b"x")] == [
        True,
        True,
        False,
        False,
    ]
    assert cache.has_opened(b"old")
    assert cache.has_opened(b"new")
