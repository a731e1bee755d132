"""Worker streams for the laws of the hidden text.

A model's output is drawn as spans. What must stay hidden is written in capitals, and every such
span carries a word of its own that nobody could guess; what may be shown has no capitals, so one
leaked letter is seen. Then it is sent as one of the engines sends it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from app.protocol.rules import AnswerRules, CallRules, ToolRule
from tests.properties.worker_streams import ENGINE_SPLITS, Call, Choice, Form, Json, Stream, Wire

Draw = Callable[[st.SearchStrategy[Any]], Any]

NONCE = "N0NCE"
MARKER = "m4rk"

TOOLS: dict[str, Json | None] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
    "get_secret": None,  # offered, but not allowed
}
ALLOWED = (ToolRule("get_w*"),)
OPENINGS = ("<think>", "<Think>", "< think >", "<THINKING>", "<thinking\n>")
CLOSINGS = ("</think>", "</Think>", "< / think>", "</ THINKING >")
QUOTES = ("`", '"', "'")
CONTROL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "</tool_call>")

hidden_filler = st.text(alphabet="AB É\n<.&", max_size=6)
shown_filler = st.text(alphabet="ab é\u2028\n<>/`.&", max_size=6)


@dataclass(frozen=True)
class Output:
    """What a model wrote for one choice. `shown` is what the client is to have of the answer."""

    thought: str
    closed: bool
    answer: str
    shown: str
    calls: tuple[Call, ...]
    after: tuple[str, ...]  # behind each call
    reason: str | None
    second_thought: bool = False


@dataclass
class Words:
    """Words that come once: nonces for what is hidden, markers for what is shown."""

    draw: Draw
    count: int = 0

    def hidden(self) -> str:
        self.count += 1
        return f"{NONCE}{self.count}X{self.draw(hidden_filler)}"

    def shown(self) -> str:
        self.count += 1
        return f"{MARKER}{self.count}x{self.draw(shown_filler)}"

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))


# -- the spans of a thought: none ends it. They begin and end with a hidden word, so no tag stands
# beside a quotation mark by accident.


def _nested(words: Words) -> str:
    opening = words.one_of(*OPENINGS)
    closing = "</think>" if opening == "<think>" else words.one_of(*CLOSINGS)
    return f"X{opening}{words.hidden()}{closing}"


def _nested_variant(words: Words) -> str:
    return f"X{words.one_of(*OPENINGS[1:])}{words.hidden()}{words.one_of(*CLOSINGS[1:])}"


def _mentioned_closing(words: Words) -> str:
    quote = words.one_of(*QUOTES)
    return f"{quote}</think>{quote}"


def _mentioned_opening(words: Words) -> str:
    return f"{words.one_of(*QUOTES)}{words.one_of(*OPENINGS)}"


def _variant_closing(words: Words) -> str:
    return f"X{words.one_of(*CLOSINGS[1:])}"


def _mentioned_call(words: Words) -> str:
    return f"X<tool_call> {words.hidden()}"


def _debris(words: Words) -> str:
    return f"X{words.one_of(*CONTROL, '</th', '<', '< / ', '<thin', '<tool_', '<function')}"


SPANS = {
    Wire.INLINE: (
        _nested, _mentioned_closing, _mentioned_opening, _variant_closing, _mentioned_call, _debris,
    ),
    Wire.FAITHFUL: (
        _nested_variant, _mentioned_opening, _variant_closing, _mentioned_call, _debris,
    ),
    # A closing tag that is only mentioned ends the thought of these, and nobody can tell.
    Wire.SWALLOWING: (_nested, _mentioned_opening, _variant_closing, _mentioned_call, _debris),
    Wire.TEXTUAL: (_nested, _mentioned_opening, _variant_closing, _debris),
    Wire.UNSPLIT: (
        _nested, _mentioned_closing, _mentioned_opening, _variant_closing, _mentioned_call, _debris,
    ),
    Wire.CONTINUED: (_debris,),
}  # fmt: skip


def _thought(words: Words, wire: Wire) -> str:
    spans = words.draw(st.lists(st.sampled_from(SPANS[wire]), max_size=3))
    text = words.one_of("", "", "\n<think>\n", "<think>")
    text += words.hidden()
    for span in spans:
        text += span(words) + words.hidden()
    return text


# -- the answer


def _answer(words: Words) -> Output:
    """An answer behind no thought and without calls."""
    raw = shown = ""
    second = False
    for kind in words.draw(st.lists(st.sampled_from("wwwwtcsm"), max_size=5)):
        word = words.shown()
        raw, shown = raw + word, shown + word
        if kind == "t":
            opening = words.one_of(*OPENINGS)
            closing = "</think>" if opening == "<think>" else words.one_of(*CLOSINGS)
            raw += f"{opening}{words.hidden()}{closing}"
            second = True
        elif kind == "c":  # code that is about tags
            raw += f"```\n<think>\n{words.hidden()}\n</think>\n```"
            shown += "``````"
            second = True
        elif kind == "s":
            raw += words.one_of(*CLOSINGS)
        elif kind == "m":
            raw += words.one_of(*CONTROL, "<tool_call>")
            if raw.endswith("<tool_call>"):
                raw, shown = f"{raw} to", f"{shown} to"
    return Output("", True, raw, shown, (), (), "stop", second_thought=second)


def _open_end(words: Words, output: Output) -> Output:
    tail = f"{words.one_of(*OPENINGS)}{words.hidden()}{words.one_of('', '</Th', '<')}"
    opened = replace(output, answer=output.answer + tail, second_thought=True)
    # What a variant has opened may not be closed by the cut tag; nothing closes it.
    return replace(opened, reason=words.one_of("stop", "length"))


# -- calls


def _call(words: Words, form: Form, kinds: str) -> Call:
    """`kinds` to draw from: good ones, given twice as JSON, with markup behind them; of unknown and
    forbidden tools, off the schema, with a thought in them, and of broken JSON."""
    kind = words.one_of(*kinds)
    name, city = "get_weather", words.hidden().replace("<", "")
    values: Json = {"city": city}
    if kind in "gdb":
        city = words.shown().replace("<", "").strip() + words.one_of("", " </tool_call> a")
        values = {"city": city, "days": words.one_of(1, 20)}
        arguments = json.dumps(values, ensure_ascii=False)
        released = (name, values)
        if kind == "d":
            arguments = json.dumps(arguments)
        elif kind == "b":
            arguments += words.one_of("\n</tool_call>", "\n</function>\n</tool_call>")
        return Call(form, name, arguments, released)
    if kind == "u":
        name = words.hidden().split("X")[0]
    elif kind == "f":
        name = "get_secret"
    elif kind == "s":
        values = {"city": city, "days": words.hidden().replace("<", "")}
    elif kind == "t":
        values = {"city": f"{words.one_of(*OPENINGS)}{city}</think>"}
    arguments = json.dumps(values, ensure_ascii=False)
    return Call(form, name, arguments[:-1] if kind == "j" else arguments)


def _with_calls(
    words: Words, output: Output, forms: tuple[Form, ...], *, offered: bool, within: bool = False
) -> Output:
    """`within`: the thought does not end before the first call, which is a good one."""
    count = words.draw(st.integers(within, 3))
    calls = []
    for number in range(count):
        form = words.one_of(*forms)
        kinds = "gggusftdbj" if form is Form.ENGINE else "gggusft"
        calls.append(
            _call(words, form, ("g" if within and not number else kinds) if offered else "u")
        )
    after = [words.one_of("", "\n", "\n" + words.hidden()) for _ in calls]
    reason = words.one_of("stop", "length", "tool_calls", "repetition", None)
    if within:
        after[-1] += words.one_of("", "</think>\n\n" + words.hidden())
    elif calls and words.one_of(False, False, True):
        form = words.one_of(*forms)
        values = json.dumps({"city": words.hidden().replace("<", "")}, ensure_ascii=False)
        text = values[: values.rindex("X") + 1] if form is Form.ENGINE else values
        calls[-1] = Call(form, "get_weather", text, cut=True)
        after[-1], reason = "", "length"
    return replace(output, calls=tuple(calls), after=tuple(after), reason=reason)


# -- the worker


def _written(words: Words, wire: Wire, *, offered: bool) -> Output:
    forms, bare = [Form.XML, Form.HERMES], [Form.BARE] if offered else []  # else it is text
    if wire in ENGINE_SPLITS and words.one_of(False, True):  # then all of the calls
        forms, bare = [Form.ENGINE], []
    ending = words.one_of("calls", "calls", "calls", "open", "never", "within")
    if ending == "open":
        output = _open_end(words, _answer(words))
    elif wire is Wire.CONTINUED or ending == "calls":
        output = _with_calls(words, _answer(words), (*forms, *bare), offered=offered)
    else:
        reason = words.one_of("stop", "length", "repetition", "content_filter", None)
        output = Output("", False, "", "", (), (), reason)
        if ending == "within" and offered:
            output = _with_calls(words, output, tuple(forms), offered=True, within=True)
    return output if wire is Wire.CONTINUED else replace(output, thought=_thought(words, wire))


def _parts(output: Output, wire: Wire) -> tuple[tuple[str, str] | Call, ...]:
    """As the worker sends it, call by call."""
    parts: list[tuple[str, str] | Call] = []
    closing = "</think>\n\n" if output.closed else ""
    match wire:
        case Wire.INLINE | Wire.UNSPLIT:
            parts.append(("text", output.thought + closing + output.answer))
        case Wire.CONTINUED:
            parts.append(("text", output.answer))
        case Wire.FAITHFUL:
            parts += [("thought", output.thought), ("text", closing[8:] + output.answer)]
        case _:
            thought, _, text = (output.thought + closing + output.answer).partition("</think>")
            if wire is Wire.SWALLOWING:
                text = text.replace("</think>", "")
            parts += [("thought", thought), ("text", text)]
    for call, after in zip(output.calls, output.after, strict=True):
        parts.append(call if call.form is Form.ENGINE else ("text", call.markup))
        parts.append(("text", after))
    return tuple(part for part in parts if isinstance(part, Call) or part[1])


def _choice(words: Words, wire: Wire, *, offered: bool) -> Choice:
    output = _written(words, wire, offered=offered)
    released = tuple(call.released for call in output.calls if call.released is not None)
    # Where closing tags vanish, a thought within another text has no end.
    lost = wire is Wire.SWALLOWING and ("</think>" in output.thought or output.second_thought)
    sure = not lost and output.reason is not None
    believable = not output.closed and output.reason in ("stop", "tool_calls")
    parts = _parts(output, wire)
    if wire in ENGINE_SPLITS and words.one_of(False, False, False, True):
        parts = (("text", words.hidden()), *parts)  # ahead of the thought, as nobody should
    return Choice(parts, output.reason, output.shown, released, sure, believable)


@st.composite
def streams(draw: Draw, *, wires: tuple[Wire, ...] = tuple(Wire), most: int = 4) -> Stream:
    wire = draw(st.sampled_from(wires))
    offered = draw(st.sampled_from((True, True, True, False)))
    words = Words(draw)
    count = draw(st.integers(1, most))
    choices = tuple(_choice(words, wire, offered=offered) for _ in range(count))
    rules = AnswerRules(
        n=count,
        calls=CallRules(offered=TOOLS if offered else {}, allowed=ALLOWED),
        loops=None,
    )
    return Stream(
        wire,
        choices,
        rules,
        thought_field=draw(st.sampled_from(("reasoning", "reasoning_content"))),
        # A verified worker that sends no thought at all, and ends by itself, is believed.
        verified=not any(choice.believable for choice in choices),
        extras=draw(st.booleans()),
        chunking=draw(st.integers(0, 1000)),
    )
