"""How long a shipper waits for its database."""

from app.audit.spool.shipper import FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, retry_seconds

FAILURES = (0, 1, 2, 3, 10, 1_000_000)
REPLICAS = 100


def test_it_waits_longer_from_time_to_time_and_never_long() -> None:
    for failures in FAILURES:
        longest = min(FIRST_RETRY_SECONDS * 2 ** min(failures, 100), MAX_RETRY_SECONDS)
        waits = [retry_seconds(failures) for _ in range(REPLICAS)]
        assert longest / 2 <= min(waits)
        assert max(waits) <= longest


def test_replicas_do_not_all_come_back_at_once() -> None:
    for failures in FAILURES:
        assert len({retry_seconds(failures) for _ in range(REPLICAS)}) == REPLICAS
