"""The gate's laws: what goes out is whole and checked, and of what was refused nothing does."""

import itertools
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.calls import PIECE_CHARACTERS, CallGate
from app.protocol.events import ToolCallDelta
from app.protocol.findings import Findings
from app.protocol.rules import CallRules, ToolRule
from app.protocol.schema import ArgumentChecker
from tests.properties.cutting import cut, cuts

NONCE = "N0NCE"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "lines": {"type": ["integer", "null"]}},
    "required": ["path"],
}
OFFERED: dict[str, Any] = {"read": SCHEMA, "list": None, "delete": SCHEMA}
ALLOWED = (ToolRule("read", {"path": "[a-z/]*"}), ToolRule("l*"))

shown = st.text("abc/", max_size=12)
extra = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | shown,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(shown, inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class Made:
    """A call as a model made it; `good` says that it has to go out."""

    name: str
    text: str
    good: bool


def written(value: object) -> str:
    return orjson.dumps(value).decode()


def good_text(value: dict[str, Any]) -> st.SearchStrategy[str]:
    text = written(value)
    return st.sampled_from(
        [text, f" {text}\n", text + "</tool_call>", text + "\n</function>", written(text)]
    )


@st.composite
def good_calls(draw: st.DrawFn) -> Made:
    if draw(st.booleans()):
        value = {"path": draw(shown), "lines": draw(st.none() | st.integers(0, 99))}
        return Made("read", draw(good_text(value)), True)
    return Made("list", draw(good_text(draw(st.dictionaries(shown, extra, max_size=3)))), True)


# Of each of these nothing may be seen: every one carries the nonce.
bad_calls = st.sampled_from(
    [
        Made(f"un{NONCE}", "{}", False),
        Made(f"read {NONCE}", '{"path": "a"}', False),
        Made("", f'{{"path": "{NONCE}"}}', False),
        Made("delete", f'{{"path": "{NONCE}"}}', False),
        Made("read", f'{{"path": "{NONCE}"}}', False),
        Made("read", f'{{"path": "a", "more": "<think>{NONCE}"}}', False),
        Made("list", f'{{"{NONCE}</Think>": 1}}', False),
        Made("list", f'{{"path": "{NONCE}', False),
        Made("list", f'"{NONCE}"', False),
        Made("list", f"[{NONCE}]", False),
        Made("list", '{"a":' + "[" * 200 + f'"{NONCE}"' + "]" * 200 + "}", False),
        Made("read", f'{{"lines": 1, "{NONCE}": 1}}', False),
        Made("read", f'{{"path": "a", "lines": "{NONCE}"}}', False),
    ]
)
calls = st.lists(good_calls() | bad_calls, max_size=5)


def deltas_of(made: list[Made], at: list[int]) -> list[ToolCallDelta]:
    """As an engine sends them, cut anywhere."""
    deltas = []
    for index, call in enumerate(made):
        pieces = cut(call.text, at) or [""]
        deltas.append(ToolCallDelta(1, index, pieces[0], f"e{index}", call.name))
        deltas += [ToolCallDelta(1, index, piece) for piece in pieces[1:]]
    return deltas


def run(made: list[Made], at: list[int]) -> tuple[list[ToolCallDelta], CallGate, Findings]:
    findings = Findings()
    gate = CallGate(1, CallRules(OFFERED, ALLOWED), findings, "call")
    out = [delta for piece in deltas_of(made, at) for delta in gate.feed(piece)]
    return out + gate.close("tool_calls"), gate, findings


def joined(deltas: list[ToolCallDelta]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of each call; holds every law of their form on the way."""
    groups = [(index, list(group)) for index, group in itertools.groupby(deltas, lambda d: d.index)]
    assert [index for index, _ in groups] == list(range(len(groups)))
    for _, (head, *rest) in groups:
        assert head.id
        assert head.name
        assert head.arguments == ""
        assert rest
        assert all(delta.id is None and delta.name is None for delta in rest)
        assert all(0 < len(delta.arguments) <= PIECE_CHARACTERS for delta in rest)
    return [
        (head.id or "", head.name or "", "".join(delta.arguments for delta in rest))
        for _, (head, *rest) in groups
    ]


@given(calls, cuts)
def test_the_calls_do_not_depend_on_how_they_were_cut(made: list[Made], at: list[int]) -> None:
    deltas, _, findings = run(made, at)
    whole, _, same = run(made, [])
    assert deltas == whole
    assert findings == same


@given(calls, cuts)
def test_good_calls_arrive_in_order_and_of_others_nothing(made: list[Made], at: list[int]) -> None:
    deltas, gate, findings = run(made, at)
    assert NONCE not in repr(deltas)
    good = [(f"e{index}", call.name) for index, call in enumerate(made) if call.good]
    assert [(call_id, name) for call_id, name, _ in joined(deltas)] == good
    assert gate.released == len(good)
    assert len(findings.refused_calls) == len(made) - len(good)
    assert gate.started == bool(made)
    assert (gate.refused is None) == (len(good) == len(made))
    assert all(delta.choice == 1 for delta in deltas)


@given(calls, cuts)
def test_what_is_released_is_an_object_that_passes_every_check(
    made: list[Made], at: list[int]
) -> None:
    for _, name, arguments in joined(run(made, at)[0]):
        value = orjson.loads(arguments)
        assert isinstance(value, dict)
        assert ArgumentChecker(OFFERED[name]).mismatch(value) is None


@given(good_calls(), cuts, st.data())
def test_a_call_that_is_cut_off_is_never_released(made: Made, at: list[int], data: Any) -> None:
    end = made.text.rstrip().rfind("}")
    cut_off = made.text[: data.draw(st.integers(0, max(0, end)))]
    gate = CallGate(1, CallRules(OFFERED), findings := Findings(), "call")
    out = [
        d for piece in deltas_of([Made(made.name, cut_off, False)], at) for d in gate.feed(piece)
    ]
    assert out + gate.close("length") == []
    assert len(findings.refused_calls) == 1


@given(st.text(max_size=40), st.text(max_size=10), cuts, st.sampled_from(["stop", "length"]))
def test_no_text_raises_or_breaks_the_form(text: str, name: str, at: list[int], why: str) -> None:
    gate = CallGate(0, CallRules({name: None}), Findings(), "call")
    out = [d for piece in deltas_of([Made(name, text, False)], at) for d in gate.feed(piece)]
    for piece in out + gate.close(why):
        assert isinstance(piece.arguments, str)
    assert gate.found(text) is None or gate.started


@given(st.lists(good_calls(), max_size=4))
def test_a_call_in_the_text_is_released_as_the_same_call_from_the_engine(made: list[Made]) -> None:
    engine, _, _ = run(made, [])
    gate = CallGate(1, CallRules(OFFERED, ALLOWED), Findings(), "call")
    text: list[ToolCallDelta] = []
    for call in made:
        arguments = call.text.strip().removesuffix("</tool_call>").removesuffix("</function>")
        found = gate.found(f'{{"name": "{call.name}", "arguments": {arguments}}}')
        assert found is not None
        text += found
    assert [(name, orjson.loads(arguments)) for _, name, arguments in joined(text)] == [
        (name, orjson.loads(arguments)) for _, name, arguments in joined(engine)
    ]
