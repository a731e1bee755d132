import pytest

from app.telemetry.trace_context import (
    MAX_STATE_CHARACTERS,
    Parent,
    TraceHeaders,
    read_parent,
    write_headers,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def read(parent: str, *states: str) -> Parent | None:
    return read_parent(TraceHeaders([parent], list(states)))


def state_of(*states: str) -> str:
    parent = read(PARENT, *states)
    assert parent is not None
    return parent.state


def test_what_was_read_is_written_again_below_another_span() -> None:
    parent = read(PARENT, "a=1")
    assert parent == Parent(int(TRACE, 16), int(SPAN, 16), True, "a=1")
    assert write_headers(parent.trace_id, 255, parent.state, sampled=False) == {
        "traceparent": f"00-{TRACE}-00000000000000ff-00",
        "tracestate": "a=1",
    }


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_only_the_last_bit_says_that_spans_are_kept(flags: str) -> None:
    parent = read(f"00-{TRACE}-{SPAN}-{flags}")
    assert parent is not None
    assert not parent.sampled


def test_a_later_version_may_say_more() -> None:
    assert read(f"01-{TRACE}-{SPAN}-01-more") is not None
    assert read(f"01-{TRACE}-{SPAN}-01") is not None
    assert read(f" {PARENT}\t") is not None


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"{PARENT},{PARENT}",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_what_is_malformed_is_as_nothing(parent: str) -> None:
    assert read(parent) is None


def test_two_parents_are_none() -> None:
    assert read_parent(TraceHeaders([PARENT, PARENT], [])) is None
    assert read_parent(TraceHeaders([], ["a=1"])) is None


@pytest.mark.parametrize(
    ("states", "read_as"),
    [
        (["a=1"], "a=1"),
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 ,\tb=2,,"], "a=1,b=2"),
        (["tenant@vendor=x y"], "tenant@vendor=x y"),
        ([",".join(f"k{n}=v" for n in range(32))], ",".join(f"k{n}=v" for n in range(32))),
    ],
)
def test_a_state_is_kept_in_its_order(states: list[str], read_as: str) -> None:
    assert state_of(*states) == read_as


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "a=",
        "A=1",
        "a=1,a=2",
        "a=1=2",
        "a=\x01",
        "a=é",
        "a=1\r\nx-injected: 1",
        ",".join(f"k{n}=v" for n in range(33)),
        "a=" + "v" * MAX_STATE_CHARACTERS,
    ],
)
def test_of_a_state_that_is_malformed_or_too_long_nothing_is_kept(state: str) -> None:
    assert state_of(state) == ""
