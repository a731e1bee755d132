"""What engines are known to send, and what a client may have of it: tests/transcripts.

Each stream is read in one piece, byte by byte and in random pieces, and with its text in deltas of
one character and in as few deltas as there can be; for a key that may not see the thought, and for
one that may.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from app.protocol.rules import AnswerRules, CallRules, Start, ToolRule
from tests.properties.cutting import cut
from tests.properties.reading import Message, Seen, read

Json = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "transcripts"
TEXT_FIELDS = ("content", "reasoning", "reasoning_content")
CALL_RULES = ("tools", "allowed", "single", "thought_in_arguments")
RANDOM_CUTS = 4


@dataclass(frozen=True)
class Transcript:
    """One document of a file; its README says what the fields mean."""

    name: str
    separation: str
    rules: Json
    payloads: list[str]
    hidden: list[str]
    expected: Json

    @property
    def start(self) -> Start:
        if self.rules.get("continuation"):
            return Start.ANSWER
        return Start.SPLIT if self.separation == "parser" else Start.THOUGHT

    def answer_rules(self) -> AnswerRules:
        given = dict(self.rules)
        given.pop("continuation", None)
        given.pop("verified", None)
        calls = {name: given.pop(name) for name in CALL_RULES if name in given}
        calls["offered"] = calls.pop("tools", {})
        if "allowed" in calls:
            calls["allowed"] = tuple(map(ToolRule, calls["allowed"]))
        given["stop"] = tuple(given.pop("stop", ()))
        return AnswerRules(calls=CallRules(**calls), **given)

    def expected_choices(self) -> list[Json]:
        return self.expected.get("choices") or [self.expected]


def transcripts() -> Iterator[Transcript]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for number, document in enumerate(yaml.safe_load_all(path.read_text()), 1):
            yield Transcript(
                f"{path.stem}-{number}-{document['separation']}",
                document["separation"],
                document.get("rules", {}),
                document["events"].splitlines(),
                document["hidden"],
                document["expected"],
            )


# -- the ways in which the same stream may arrive


def in_one_piece(transcript: Transcript) -> list[bytes]:
    return [_sse(transcript.payloads)]


def byte_by_byte(transcript: Transcript) -> list[bytes]:
    return [bytes([byte]) for byte in _sse(transcript.payloads)]


def in_random_pieces(transcript: Transcript) -> list[bytes]:
    data = _sse(transcript.payloads)
    chance = random.Random(transcript.name)
    return cut(data, [chance.randrange(len(data)) for _ in range(RANDOM_CUTS)])


def in_deltas_of_one_character(transcript: Transcript) -> list[bytes]:
    payloads = []
    for payload in transcript.payloads:
        where = _only_text(payload)
        if where is None:
            payloads.append(payload)
        else:
            index, field, text = where
            payloads += [_delta(index, field, character) for character in text]
    return [_sse(payloads)]


def in_few_deltas(transcript: Transcript) -> list[bytes]:
    payloads: list[str] = []
    runs = itertools.groupby(transcript.payloads, lambda payload: (_only_text(payload) or ())[:2])
    for key, run in runs:
        if key:
            text = "".join((_only_text(payload) or ("",))[-1] for payload in run)
            payloads.append(_delta(*key, text))
        else:
            payloads += run
    return [_sse(payloads)]


SAME_DELTAS = (in_one_piece, byte_by_byte, in_random_pieces)
OTHER_DELTAS = (in_deltas_of_one_character, in_few_deltas)


def _sse(payloads: list[str]) -> bytes:
    return b"".join(b"data: %s\n\n" % payload.encode() for payload in payloads)


def _only_text(payload: str) -> tuple[int, str, str] | None:
    """Choice, field and text of a chunk that says nothing else."""
    try:
        chunk = orjson.loads(payload)
        (choice,) = chunk["choices"]
        ((field, text),) = choice["delta"].items()
    except (ValueError, KeyError):
        return None
    plain = chunk.keys() == {"choices"} and choice.keys() == {"index", "delta", "finish_reason"}
    if plain and choice["finish_reason"] is None and field in TEXT_FIELDS and text:
        return choice["index"], field, text
    return None


def _delta(index: int, field: str, text: str) -> str:
    choice = {"index": index, "delta": {field: text}, "finish_reason": None}
    return orjson.dumps({"choices": [choice]}).decode()


# -- what is expected


def check(transcript: Transcript, seen: Seen, *, same_deltas: bool) -> None:
    expected = transcript.expected
    choices = transcript.expected_choices()
    assert [_described(message) for message in seen.messages] == [
        {
            "content": choice["content"],
            "tool_calls": choice.get("tool_calls", []),
            "finish_reason": choice["finish_reason"],
        }
        for choice in choices
    ]
    assert _noted(seen) == {
        "hidden": {},
        "refused": [],
        "shown_too_early": 0,
        "stopped": None,
    } | expected.get("findings", {})
    if expected.get("failure") is None:
        assert seen.failure is None
    else:
        assert expected["failure"] in (seen.failure or "")
    if "usage" in expected and same_deltas:
        assert asdict(seen.usage) == expected["usage"]


def _described(message: Message) -> Json:
    return {
        "content": message.content,
        "tool_calls": [
            {"name": name, "arguments": orjson.loads(arguments)}
            for _, name, arguments in message.calls
        ],
        "finish_reason": message.finish_reason,
    }


def _noted(seen: Seen) -> Json:
    findings = seen.findings
    return {
        "hidden": {where.value: times for where, times in findings.hidden.items()},
        "refused": [[call.name, call.reason.value] for call in findings.refused_calls],
        "shown_too_early": findings.shown_too_early,
        "stopped": findings.stopped,
    }


def _read(transcript: Transcript, pieces: list[bytes], *, show_thought: bool) -> Seen:
    return read(
        pieces,
        replace(transcript.answer_rules(), show_thought=show_thought),
        start=transcript.start,
        verified=transcript.rules.get("verified", True),
    )


every_transcript = pytest.mark.parametrize(
    "transcript", [pytest.param(each, id=each.name) for each in transcripts()]
)
every_arrival = pytest.mark.parametrize("arrival", SAME_DELTAS + OTHER_DELTAS)


@every_transcript
@every_arrival
def test_a_client_has_the_answer_and_nothing_hidden(
    transcript: Transcript, arrival: Callable[[Transcript], list[bytes]]
) -> None:
    seen = _read(transcript, arrival(transcript), show_thought=False)
    check(transcript, seen, same_deltas=arrival in SAME_DELTAS)
    for hidden in transcript.hidden:
        assert hidden.encode() not in seen.sent
        assert not any(hidden in message.texts for message in seen.messages)
    assert not any(message.reasoning for message in seen.messages)


@every_transcript
@every_arrival
def test_a_client_that_may_see_the_thought_has_the_same_answer(
    transcript: Transcript, arrival: Callable[[Transcript], list[bytes]]
) -> None:
    seen = _read(transcript, arrival(transcript), show_thought=True)
    check(transcript, seen, same_deltas=arrival in SAME_DELTAS)
    for hidden in transcript.hidden:
        assert not any(hidden in message.texts for message in seen.messages)
    for message, choice in zip(seen.messages, transcript.expected_choices(), strict=True):
        assert message.reasoning == choice.get("reasoning", message.reasoning)


def test_every_case_that_is_known_of_vllm_is_there() -> None:
    known = "01 02 03 04 05 05b 06 07 07b 08 09 09b 10 10b 11 12 16 17 18"
    names = sorted(path.stem.split("-")[1] for path in FOLDER.glob("vllm-*.yaml"))
    assert " ".join(names) == known


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llamacpp-chat", Message("The capital of France is Paris.", finish_reason="stop")),
        ("llamacpp-thought-cut", Message("", finish_reason="length")),
    ],
)
def test_the_embedded_worker_was_recorded_thinking_aloud(name: str, expected: Message) -> None:
    data = (FOLDER / f"{name}.sse").read_bytes()
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        seen = read(pieces, AnswerRules(), start=Start.THOUGHT)
        assert seen.messages == [expected]
        assert b"The user" not in seen.sent
