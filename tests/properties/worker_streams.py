"""Worker streams as values: choices made of parts, and the bytes that an engine makes of them."""

import json
import random
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from app.protocol.rules import AnswerRules, Start

Json = dict[str, Any]

EXTRA = "EXTRA0"  # in fields that no client may see, whatever its key


class Form(Enum):
    """How a call is written."""

    XML = auto()
    HERMES = auto()
    BARE = auto()
    ENGINE = auto()  # by the engine's own parser, in deltas of its own


class Wire(Enum):
    """How a worker sends the text. All but the last two declare that they split."""

    FAITHFUL = auto()
    SWALLOWING = auto()  # vLLM: the first closing tag ends the thought, the others vanish
    TEXTUAL = auto()  # SGLang: so it does here, and the others stay
    UNSPLIT = auto()  # the parser is off, and nobody knows
    INLINE = auto()
    CONTINUED = auto()  # behind a closed thought

    @property
    def start(self) -> Start:
        return {Wire.INLINE: Start.THOUGHT, Wire.CONTINUED: Start.ANSWER}.get(self, Start.SPLIT)


ENGINE_SPLITS = (Wire.FAITHFUL, Wire.SWALLOWING, Wire.TEXTUAL)


@dataclass(frozen=True)
class Call:
    """`released` is what the client is to have of it, as `(name, arguments)`."""

    form: Form
    name: str
    arguments: str
    released: tuple[str, Json] | None = None
    cut: bool = False  # by the end of the answer

    @property
    def markup(self) -> str:
        if self.form is Form.HERMES:
            text = f'<tool_call>\n{{"name": "{self.name}", "arguments": {self.arguments}}}\n'
        else:
            values = json.loads(self.arguments)
            parameters = "".join(
                f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items()
            )
            text = f"<function={self.name}>\n{parameters}</function>"
            if self.form is Form.XML:
                text = f"<tool_call>\n{text}\n"
        if self.cut:  # within the last value
            return text[: text.rindex("X") + 1]
        return text if self.form is Form.BARE else text + "</tool_call>"


@dataclass(frozen=True)
class Choice:
    """`parts` are `(field, text)`, or calls. `shown` and `released` are what must arrive, if that
    is `sure`; else nothing but what is in them may."""

    parts: tuple[tuple[str, str] | Call, ...]
    reason: str | None
    shown: str
    released: tuple[tuple[str, Json], ...]
    sure: bool
    believable: bool  # a thought without any tag, if nobody has split it off, and its own end


@dataclass(frozen=True)
class Stream:
    """What a worker sends for one request."""

    wire: Wire
    choices: tuple[Choice, ...]
    rules: AnswerRules
    thought_field: str
    verified: bool = True
    extras: bool = False
    chunking: int = 0  # chooses how it is cut into deltas; 0: as little as can be

    def data(self) -> bytes:
        chance = random.Random(self.chunking)
        queues = [self._deltas(index, chance) for index in range(len(self.choices))]
        payloads = []
        while live := [queue for queue in queues if queue]:
            queue = chance.choice(live) if self.chunking else live[0]
            payloads.append(self._payload(queue.pop(0)))
        lines = [json.dumps(payload, ensure_ascii=False) for payload in payloads]
        return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()

    def alone(self, index: int) -> "Stream":
        """One choice by itself."""
        return replace(
            self, choices=(self.choices[index],), rules=replace(self.rules, n=1), extras=False
        )

    def _deltas(self, index: int, chance: random.Random) -> list[Json]:
        choice = self.choices[index]
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        calls = 0
        for part in choice.parts:
            if isinstance(part, Call):
                deltas += _call_deltas(part, calls, self._pieces(part.arguments, chance))
                calls += 1
            else:
                name = {"thought": self.thought_field, "text": "content"}[part[0]]
                deltas += [{name: piece} for piece in self._pieces(part[1], chance)]
        chunks = [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
        if choice.reason is not None:
            chunks.append({"index": index, "delta": {}, "finish_reason": choice.reason})
        return chunks

    def _pieces(self, text: str, chance: random.Random) -> list[str]:
        if not self.chunking:
            return [text] if text else []
        pieces, longest = [], chance.choice((1, 3, 9, 30))
        while text:
            length = chance.randint(1, longest)
            pieces.append(text[:length])
            text = text[length:]
        return pieces

    def _payload(self, choice: Json) -> Json:
        if not self.extras:
            return {"choices": [choice]}
        choice = choice | {
            "delta": choice["delta"] | {EXTRA: EXTRA, "reasoning_details": [{"text": EXTRA}]},
            "logprobs": {"content": [{"token": EXTRA, "top_logprobs": []}]},
            "token_ids": [1, 2, EXTRA],
            "stop_reason": EXTRA,
        }
        usage = {"prompt_tokens": 1, "completion_tokens": 2, EXTRA: EXTRA}
        return {
            "id": EXTRA,
            "model": EXTRA,
            "system_fingerprint": EXTRA,
            "prompt_token_ids": [EXTRA],
            "prompt_logprobs": [{EXTRA: EXTRA}],
            "kv_transfer_params": {"prompt_token_ids": [EXTRA]},
            "choices": [choice],
            "usage": usage,
        }


def _call_deltas(call: Call, index: int, pieces: list[str]) -> list[Json]:
    function = {"name": call.name, "arguments": ""}
    head = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
    return [
        {"tool_calls": [head]},
        *({"tool_calls": [{"index": index, "function": {"arguments": p}}]} for p in pieces),
    ]
