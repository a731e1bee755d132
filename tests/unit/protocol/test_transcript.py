"""What an answer has said, whole and piece by piece."""

from app.protocol.events import ReasoningDelta, SealedReasoning, TextDelta, ToolCallDelta
from app.protocol.transcript import Transcript


def test_a_transcript_is_the_message_that_was_said() -> None:
    transcript = Transcript()
    transcript.feed([TextDelta(0, "Hel"), TextDelta(0, "lo.")])
    assert transcript.messages() == {0: {"role": "assistant", "content": "Hello.", "refusal": None}}


def test_a_thought_that_passes_is_not_kept() -> None:
    transcript = Transcript()
    transcript.feed([ReasoningDelta(0, "Hm."), TextDelta(0, "Yes.")])
    assert "Hm." not in str((transcript.taken(), transcript.messages()))


def test_a_thought_is_part_of_the_choice_that_it_is_given_for() -> None:
    transcript = Transcript(2)
    transcript.feed([ReasoningDelta(1, "seen"), TextDelta(0, "a"), TextDelta(1, "b")])
    messages = transcript.messages({1: "all of it"})
    assert "reasoning" not in messages[0]
    assert messages[1]["reasoning"] == "all of it"


def test_what_was_taken_is_not_taken_again() -> None:
    transcript = Transcript(2)
    assert transcript.taken() == {}
    transcript.feed([TextDelta(1, "b"), TextDelta(0, "a"), TextDelta(0, "c")])
    assert transcript.taken() == {"0": "ac", "1": "b"}
    assert transcript.taken() == {}
    transcript.feed([TextDelta(0, "d")])
    assert transcript.taken() == {"0": "d"}
    assert transcript.messages()[0]["content"] == "acd"


def test_calls_and_seals_are_taken_beside_the_text() -> None:
    transcript = Transcript()
    transcript.feed(
        [
            TextDelta(0, "Let me see."),
            ToolCallDelta(0, 0, "", "call_1", "f"),
            ToolCallDelta(0, 0, '{"a"'),
            ToolCallDelta(0, 0, ":1}"),
            ToolCallDelta(0, 1, "{}", "call_2", "g"),
            SealedReasoning(0, "sealed"),
        ]
    )
    assert transcript.taken() == {
        "0": {
            "text": "Let me see.",
            "calls": [[0, "call_1", "f", '{"a":1}'], [1, "call_2", "g", "{}"]],
            "seals": ["sealed"],
        }
    }


def test_what_is_fresh_is_counted_until_it_is_taken() -> None:
    transcript = Transcript()
    transcript.feed([TextDelta(0, "abc"), ReasoningDelta(0, "no")])
    transcript.feed([ToolCallDelta(0, 0, "{}", "call_1", "f")])
    assert transcript.fresh_characters == 5
    transcript.taken()
    assert transcript.fresh_characters == 0


def test_a_choice_that_said_nothing_is_an_empty_message() -> None:
    assert Transcript(2).messages()[1]["content"] == ""


def test_a_transcript_that_is_told_again_has_the_choices_that_spoke() -> None:
    again = Transcript()
    again.retell({"2": "c"})
    assert again.messages()[2]["content"] == "c"
