"""A replay says the same as the answer did, in fewer events, wherever it was begun to be read."""

from hypothesis import given
from hypothesis import strategies as st

from app.protocol.encode import ChatFolder
from app.protocol.events import ReasoningDelta, TextDelta, ToolCallDelta, Usage, Visible
from app.protocol.replay import JOIN_EVENTS, Replay, join

text = st.text(max_size=4)
choice = st.integers(0, 1)
texts = st.builds(TextDelta, choice, text)
thoughts = st.builds(ReasoningDelta, choice, text)


@st.composite
def answers(draw: st.DrawFn) -> list[Visible]:
    """Calls begin in order, each with its name, and go on while they are the last."""
    events: list[Visible] = []
    calls = [-1, -1]
    for kind in draw(st.lists(st.sampled_from(["text", "thought", "call", "more"]), max_size=40)):
        if kind == "text":
            events.append(draw(texts))
        elif kind == "thought":
            events.append(draw(thoughts))
        else:
            at = draw(choice)
            if kind == "call" or calls[at] < 0:
                calls[at] += 1
                events.append(ToolCallDelta(at, calls[at], draw(text), f"c{calls[at]}", "name"))
            else:
                events.append(ToolCallDelta(at, calls[at], draw(text)))
    return events


def folded(events: list[Visible]) -> bytes:
    folder = ChatFolder(2)
    folder.feed(events)
    return folder.body("id", 0, "model", Usage(), {0: "stop", 1: "stop"})


@given(answers())
def test_joined_events_say_the_same(events: list[Visible]) -> None:
    joined = join(events)
    assert folded(joined) == folded(events)
    assert len(joined) <= len(events)


@given(answers())
def test_to_join_what_is_joined_changes_nothing(events: list[Visible]) -> None:
    joined = join(events)
    assert join(joined) == joined


@given(answers(), st.integers(0, 40))
def test_who_begins_in_the_middle_reads_all_of_it(events: list[Visible], cut: int) -> None:
    replay = Replay()
    replay.add(events[:cut])
    read = list(replay.since(0))
    position = len(read)
    for event in events[cut:]:
        replay.add([event], join=False)
        more = replay.since(position)
        read += more
        position += len(more)
    assert folded(read) == folded(events)


def test_a_long_answer_is_kept_as_little_more_than_its_text() -> None:
    replay = Replay()
    for _ in range(100 * JOIN_EVENTS):
        replay.add([TextDelta(0, "word")])
    characters = 4 * 100 * JOIN_EVENTS
    assert len(replay.since(0)) == 100
    assert characters < replay.size_bytes < 1.2 * characters
