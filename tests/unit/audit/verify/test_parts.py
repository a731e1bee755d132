"""Of a part of a chain: nothing is found where nothing was done, and what is gone is missed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit.checkpoints.checkpoint import make_checkpoint
from app.audit.log_reader import Part
from app.audit.stored import moment_of
from app.audit.verify.evidence import RegisterRow, StoredEvent
from app.audit.verify.findings import Problem, Report
from tests.unit.audit.verify.log import (
    KEYS,
    START,
    WRITER,
    chain,
    part_of,
    register,
    second_place,
    verified,
)

STEP = 600 * 1_000_000  # longer than a commit takes, in microseconds
# Event 1, then requests in 2 and 3, 5 and 6, and so on, each with its checkpoint: 4, 7, 10, 13.
EVENTS = chain([1, 1, 1, 1], step=STEP)
LATE = EVENTS[-1].at / 1e6 + 3600
BOUNDS = st.none() | st.integers(-1, 4 * len(EVENTS) + 1).map(
    lambda quarter: moment_of(START + quarter * STEP // 4)
)


def at(number: int) -> datetime:
    """When that event was recorded."""
    return moment_of(EVENTS[number - 1].at)


def verified_part(
    part: Part, events: Sequence[StoredEvent], *, rows: list[RegisterRow] | None = None
) -> Report:
    return verified(
        part_of(events, part),
        register(EVENTS) if rows is None else rows,
        now=LATE,
        published=second_place(EVENTS),
        part=part,
    )


def found(report: Report) -> list[tuple[Problem, str | None, int | None]]:
    return [(each.problem, each.writer, each.sequence) for each in report.findings.in_order()]


@given(BOUNDS, BOUNDS)
def test_of_an_untouched_chain_every_part_is_clean(
    since: datetime | None, until: datetime | None
) -> None:
    report = verified_part(Part(since, until), EVENTS)

    assert found(report) == []


@pytest.mark.parametrize("until", [at(11), at(12), None])
def test_an_end_that_was_cut_within_the_part_is_found(until: datetime | None) -> None:
    report = verified_part(Part(at(5), until), EVENTS[:7])

    assert found(report) == [(Problem.CUT, WRITER, 8)]


def test_what_was_cut_behind_the_part_is_no_matter_of_it() -> None:
    assert found(verified_part(Part(at(2), at(6)), EVENTS[:7])) == []


@pytest.mark.parametrize("until", [at(11), None])
def test_a_chain_that_is_gone_from_the_part_is_found(until: datetime | None) -> None:
    """Event 6 is the first that a checkpoint within the part states: 7 has to be in it."""
    report = verified_part(Part(at(5), until), EVENTS[:4])

    assert found(report) == [(Problem.VANISHED, WRITER, 7)]


def test_a_chain_that_began_within_the_part_is_missed_whole() -> None:
    report = verified_part(Part(moment_of(START)), [])

    assert found(report) == [(Problem.VANISHED, WRITER, 1)]


def test_a_beginning_of_the_part_that_is_gone_is_found_though_the_rest_is_there() -> None:
    report = verified_part(Part(at(5)), EVENTS[:4] + EVENTS[6:])

    assert found(report) == [(Problem.MISSING, WRITER, 6)]


def test_the_first_event_of_the_part_has_to_follow_from_the_one_before_it() -> None:
    changed = replace(EVENTS[4], digest=bytes(32))

    report = verified_part(Part(at(5)), [*EVENTS[:4], changed, *EVENTS[5:]])

    assert found(report) == [(Problem.CHANGED, WRITER, 5)]


def test_a_chain_that_the_register_does_not_know_is_found_in_a_part() -> None:
    report = verified_part(Part(at(11)), EVENTS, rows=[])

    assert (Problem.UNREGISTERED, WRITER, 1) in found(report)


def test_what_a_slow_disk_had_in_hand_when_a_checkpoint_was_made_is_not_missed() -> None:
    """The last event has a time before the part, and was on disk a minute later."""
    last = EVENTS[-1]
    part = Part(since=moment_of(last.at + 1))
    lines = [
        make_checkpoint(
            KEYS, WRITER, each.head, at=last.at / 1e6 + minutes * 60, previous=None, register=None
        ).payload
        for minutes, each in enumerate(EVENTS[-2:], start=1)
    ]

    report = verified([], register(EVENTS), now=LATE, published=b"\n".join(lines), part=part)

    assert found(report) == []


def test_of_a_part_it_is_noted_what_it_cannot_tell() -> None:
    part = Part(at(5))

    told = verified_part(part, EVENTS).notes
    alone = verified(part_of(EVENTS, part), register(EVENTS), now=LATE, part=part).notes

    assert "the file has what there is of them" in told[-1]
    assert "nothing here has any" in alone[-1]
    assert verified(EVENTS, register(EVENTS), now=LATE).notes == []
