from app.limits.breaker import FAILURES_TO_OPEN, GOOD_PROBES_TO_CLOSE, Breaker


def test_failures_open_it_only_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES_TO_OPEN - 1):
            assert not breaker.failed()
        breaker.succeeded()
    assert breaker.closed
    assert [breaker.failed() for _ in range(FAILURES_TO_OPEN)][-1]
    assert not breaker.closed
    assert not breaker.failed()  # it is open already


def test_what_cannot_even_be_reached_opens_it_at_once() -> None:
    breaker = Breaker()
    assert breaker.failed(at_once=True)
    assert not breaker.closed


def test_probes_close_it_only_in_a_row() -> None:
    breaker = Breaker()
    breaker.failed(at_once=True)
    for _ in range(GOOD_PROBES_TO_CLOSE - 1):
        assert not breaker.probed()
    breaker.failed()
    for _ in range(GOOD_PROBES_TO_CLOSE - 1):
        assert not breaker.probed()
    assert breaker.probed()
    assert breaker.closed
    assert not breaker.probed()  # nothing changes


def test_a_success_that_is_late_does_not_close_it() -> None:
    breaker = Breaker()
    breaker.failed(at_once=True)
    breaker.succeeded()
    assert not breaker.closed
