"""What was said in a request, for a person to read.

Whatever stands at the begin of a line is ours; what clients and models wrote is indented, so that
none of it can pass for a heading, and its control characters are made visible.
"""

import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from app.audit.content.canonical import canonical
from app.audit.content.redaction import NOT_REDACTED
from app.audit.exchange import Exchange, Said, State
from app.cli.marked_text import escaped

_INDENT = "  "
_TEXT_FIELDS = ("reasoning", "content", "refusal", "prompt")
_KNOWN_FIELDS = frozenset({*_TEXT_FIELDS, "role", "name", "tool_call_id", "tool_calls"})


def exchange_lines(exchange: Exchange, finish_reason: str | None) -> Iterator[str]:
    """Parameters and tools, then each message with its number and role, then the answers."""
    yield from _parameters(exchange.parameters)
    missing = exchange.missing_messages
    if missing:
        yield f"[1-{missing}] missing: not kept any more, or not shipped yet"
        yield ""
    for number, message in enumerate(exchange.messages, start=missing + 1):
        yield f"[{number}] {_heading(message)}"
        yield from _body(message)
        yield ""
    for choice, answer in exchange.answers.items():
        yield _answer_heading(exchange, choice, answer, finish_reason)
        yield from _body(answer)
        yield ""
    if not exchange.answers:
        yield "no answer is kept"


def _answer_heading(
    exchange: Exchange, choice: str, answer: Said, finish_reason: str | None
) -> str:
    number = f" {_one_line(choice)}" if len(exchange.answers) > 1 else ""
    heading = f"answer{number}"
    if exchange.partial:
        heading += ", as far as it was kept before the crash"
    elif finish_reason is not None:
        heading += f", ended by {_one_line(finish_reason)}"
    return heading if answer.state is State.KEPT else f"{heading}: {_state(answer)}"


def _heading(message: Said) -> str:
    value = message.value if isinstance(message.value, Mapping) else {}
    role = "prompt" if "prompt" in value else value.get("role")
    parts = [_one_line(role)] if isinstance(role, str) else []
    parts += [
        _one_line(value[name])
        for name in ("name", "tool_call_id")
        if isinstance(value.get(name), str)
    ]
    if message.body == NOT_REDACTED:
        parts.append("not kept: it could not be searched for what is to be masked")
    elif message.state is not State.KEPT:
        parts.append(_state(message))
    return " ".join(parts) or "message"


def _state(said: Said) -> str:
    if said.state is State.ERASED and said.erasure is not None:
        when = said.erasure.erased_at.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")
        return f"erased on {when} by {_one_line(said.erasure.by)}: {_one_line(said.erasure.reason)}"
    return {
        State.ERASED: "erased",
        State.MISSING: "missing: not kept any more, or not shipped yet",
        State.ALTERED: "ALTERED: not what was recorded; run `gateway audit verify`",
    }.get(said.state, "")


def _parameters(said: Said | None) -> Iterator[str]:
    if said is None:
        return
    if said.state is not State.KEPT:
        yield f"parameters: {_state(said)}"
    if isinstance(said.value, Mapping):
        rest = {name: value for name, value in said.value.items() if name != "tools"}
        yield "parameters"
        yield from _indented("\n".join(f"{name}: {_json(rest[name])}" for name in sorted(rest)))
        tools = said.value.get("tools")
        if isinstance(tools, list) and tools:
            yield "tools"
            for tool in tools:
                yield from _indented(_tool(tool))
    yield ""


def _tool(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return _json(tool)
    rest = {name: value for name, value in function.items() if name != "name"}
    return f"{function['name']} {_json(rest)}"


def _body(said: Said) -> Iterator[str]:
    value = said.value
    if said.body == NOT_REDACTED:
        return
    if not isinstance(value, Mapping):
        if said.body is not None:
            yield from _indented(_json(value))
        return
    for name in _TEXT_FIELDS:
        text = _text(value.get(name))
        if text is None:
            continue
        if name in ("reasoning", "refusal"):
            yield from _indented(f"{'thought' if name == 'reasoning' else name}:")
            text = textwrap.indent(text, _INDENT)
        yield from _indented(text)
    calls = value.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield from _indented(_call(call))
    rest = {name: inner for name, inner in value.items() if name not in _KNOWN_FIELDS}
    if rest:
        yield from _indented(_json(rest))


def _call(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return f"calls {_json(call)}"
    arguments = function.get("arguments")
    shown = arguments if isinstance(arguments, str) else _json(arguments)
    return f"calls {function.get('name')} ({call.get('id')}): {shown}"


def _text(content: Any) -> str | None:
    """The text of a message's content, of its parts if it has parts."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return _json(content)
    return "\n".join(
        part["text"]
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        else _json(part)
        for part in content
    )


def _json(value: Any) -> str:
    return canonical(value).decode()


def _one_line(text: str) -> str:
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def _indented(text: str) -> Iterator[str]:
    for line in escaped(text).split("\n"):
        yield f"{_INDENT}{line}".rstrip(" ")
