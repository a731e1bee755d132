import pytest

from app.gateway.worker_words import trouble_in

QUOTE = "Bearer canary-key said: the prompt of somebody"


@pytest.mark.parametrize(
    ("failure", "trouble"),
    [
        (f"error event: 500: CUDA out of memory. {QUOTE}", "error event: out of memory"),
        (f"error event: 500: EngineCore died: {QUOTE}", "error event: its engine died"),
        (
            "error event: abort: the engine aborted the request",
            "error event: it aborted the request",
        ),
        (f"error event: None: {QUOTE}", "error event"),
        (f"malformed chunk: {QUOTE}", "malformed chunk"),
        ("an event of more than 1048576 bytes", "an event that is too long"),
        ("choice 7 of 1", "a choice that nobody asked for"),
        (QUOTE, "unknown"),
        ("error event: 500: " + "x" * 1_000_000 + " out of memory", "error event"),
    ],
)
def test_of_a_workers_words_only_the_trouble_that_they_name_is_told(
    failure: str, trouble: str
) -> None:
    assert trouble_in(failure) == trouble
