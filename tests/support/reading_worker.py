"""A scripted worker that reads what it is asked, as a good model with a prefix cache would."""

import re
from collections.abc import Callable
from typing import Any

from app.smoke.document import QUESTION as NEEDLE_QUESTION
from app.smoke.first_steps import QUESTION, SUMMARY_QUESTION, TOOL_QUESTION
from tests.support.answers import Answer, Refusal, Reply, ToolCall, vllm_error
from tests.support.scripted_worker import ReceivedRequest, ScriptedWorker

CHARACTERS_PER_TOKEN = 4.6
TEMPLATE_TOKENS = 40
THOUGHT = ("I have read it. ", "I answer.")

# Gets the question, and the answer to be; gives what is said instead.
Spoil = Callable[[str, Answer], Reply]

_NEEDLE = re.compile(r"The two words that open the green gate are ([a-z]+ [a-z]+)\.")


class ReadingWorker(ScriptedWorker):
    """`spoil` changes single answers; a prompt beyond `max_model_len` is refused as vLLM does."""

    def __init__(self, *, spoil: Spoil | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.spoil = spoil
        self._read: set[str] = set()

    def _reply_to(self, request: ReceivedRequest) -> Reply:
        scripted = super()._reply_to(request)
        if request not in self.requests:  # the gateway's own question
            return scripted
        content: str = request.json["messages"][-1]["content"]
        tokens = TEMPLATE_TOKENS + int(len(content) / CHARACTERS_PER_TOKEN)
        if tokens > self.max_model_len:
            return self._too_long(tokens)
        question = content.rpartition("\n")[2]
        cached = tokens - tokens % 16 if content in self._read else 0
        self._read.add(content)
        answer = self._answer(question, content, tokens, cached)
        return answer if self.spoil is None else self.spoil(question, answer)

    def _answer(self, question: str, content: str, tokens: int, cached: int) -> Answer:
        calls: tuple[ToolCall, ...] = ()
        said = "Hello there."
        finish = "stop"
        if question == QUESTION:
            said = "The capital of France is Paris."
        elif question == TOOL_QUESTION:
            said, finish = "", "tool_calls"
            calls = (ToolCall("get_weather", ('{"city": ', '"Oslo"}')),)
        elif question == SUMMARY_QUESTION:
            said = "People carry things from place to place, in all weathers."
        elif question == NEEDLE_QUESTION:
            found = _NEEDLE.search(content)
            said = f"{found[1].capitalize()}." if found else "I do not know."
        return Answer(
            tuple(re.findall(r"\S+\s*", said)), THOUGHT, calls, finish,
            prompt_tokens=tokens, cached_tokens=cached,
        )  # fmt: skip

    def _too_long(self, tokens: int) -> Refusal:
        return vllm_error(
            400,
            f"This model's maximum context length is {self.max_model_len} tokens. However, your "
            f"request has {tokens} input tokens.",
        )
