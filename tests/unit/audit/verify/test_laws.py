"""Of a closed chain: nothing is found where nothing was done, and whatever is done is found."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.spool.frames import FrameKind
from app.audit.verify.findings import Problem
from tests.unit.audit.verify.log import chain, event, flipped, register, rehashed, verified

SHAPES = st.lists(st.integers(0, 4), min_size=1, max_size=4)
RANDOM = st.randoms(use_true_random=False)


@given(SHAPES)
def test_an_untouched_chain_is_clean(shape: list[int]) -> None:
    events = chain(shape)

    report = verified(events, register(events))

    assert report.findings.in_order() == []
    assert report.not_covered == []
    assert (report.events, report.checkpoints) == (len(events), len(shape))


@given(SHAPES, RANDOM)
def test_one_changed_bit_is_found_and_the_event_named(
    shape: list[int], random_source: random.Random
) -> None:
    events = chain(shape)
    rows = register(events)
    place = random_source.randrange(len(events))
    bad = events[place]
    assert bad.payload is not None
    field = random_source.choice(["payload", "hash", "at", "kind"])
    if field == "payload":
        changed = event(bad.writer, bad.head, bad.kind, bad.at, flipped(bad.payload, random_source))
    elif field == "hash":
        changed = replace(bad, hash=flipped(bad.hash, random_source))
    elif field == "at":
        changed = replace(bad, at=bad.at ^ (1 << random_source.randrange(40)))
    else:
        changed = replace(bad, kind=bad.kind ^ (1 << random_source.randrange(4)))
    events[place] = changed

    findings = verified(events, rows).findings.in_order()

    assert bad.sequence in {finding.sequence for finding in findings}
    assert findings[0].sequence in (bad.sequence, None)


@pytest.mark.parametrize(("kind", "at"), [(999, 1), (-1, 1), (2, -1), (2, 2**64)])
def test_a_kind_or_a_time_that_no_writer_has_is_found_and_named(kind: int, at: int) -> None:
    events = chain([2])
    rows = register(events)
    events[2] = replace(events[2], kind=kind, at=at)

    findings = verified(events, rows).findings.in_order()

    assert (findings[0].problem, findings[0].sequence) == (Problem.CHANGED, 3)


@given(SHAPES, RANDOM)
def test_events_that_are_gone_are_found_and_the_first_named(
    shape: list[int], random_source: random.Random
) -> None:
    events = chain(shape)
    rows = register(events)
    first = random_source.randrange(len(events))
    # The last one is the closing checkpoint: without it the chain seems to live.
    last = random_source.randrange(first, len(events))
    left = events[:first] + events[last + 1 :]

    report = verified(left, rows, now=events[-1].at / 1e6 + 7200)

    if last + 1 < len(events):
        assert report.findings.in_order()[0].sequence == first + 1
        assert report.findings.in_order()[0].problem is Problem.MISSING
    elif first == 0:
        assert [each.problem for each in report.findings.in_order()] == [Problem.VANISHED]


@given(SHAPES, RANDOM)
def test_an_editor_who_makes_all_hashes_anew_contradicts_a_checkpoint(
    shape: list[int], random_source: random.Random
) -> None:
    events = chain([*shape, 1])
    rows = register(events)
    place = random_source.choice(
        [place for place, each in enumerate(events) if each.kind == FrameKind.OUTCOME]
    )
    bad = events[place]
    assert bad.payload is not None
    deed = random_source.choice(["edit", "delete", "insert", "swap"])
    if deed == "edit":
        payload = bad.payload.replace(b"completed", b"cancelled")
        events[place] = event(bad.writer, bad.head, bad.kind, bad.at, payload)
    elif deed == "delete":
        del events[place]
    elif deed == "insert":
        events.insert(place, bad)
    else:
        events[place - 1 : place + 1] = reversed(events[place - 1 : place + 1])

    findings = verified(rehashed(events), rows).findings.in_order()

    # What was inserted between the last event and its checkpoint contradicts nothing.
    suspects = [each for each in findings if each.problem in (Problem.REWRITTEN, Problem.UNPROVEN)]
    assert suspects
    assert suspects[0].sequence is not None
    # A copy stands behind what it is a copy of.
    assert suspects[0].sequence <= bad.sequence + (deed == "insert")


@given(SHAPES, SHAPES)
def test_several_chains_are_verified_each_by_itself(one: list[int], other: list[int]) -> None:
    first, second = chain(one), chain(other, writer="cd" * 16)
    rows = register(first, second)
    second[0] = replace(second[0], hash=bytes(32))

    report = verified([*first, *second], rows)

    assert {each.writer for each in report.findings.in_order()} == {"cd" * 16}
    assert report.chains == 2
