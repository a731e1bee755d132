"""A worker that answers by the first word of what it is asked, with a prefix cache and a speed.

So requests of every kind may run at once, whichever worker each of them meets.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.support.answers import Answer, Break, End, Reply, ToolCall, vllm_error
from tests.support.http_connection import HttpConnection, HttpRequest
from tests.support.scripted_worker import ReceivedRequest, ScriptedWorker

Json = dict[str, Any]

CHARACTERS_PER_TOKEN = 4
READ_TOKENS_PER_SECOND = 16_000.0
TOKEN_SECONDS = 0.02
CACHE_TOKENS = 400_000  # of which `kv_usage` tells a share
SLOW_SECONDS = 1.0  # of silence before a `slow` answer
LOOP = ["Wait, let me check that again. "] * 120
THOUGHT = ("The user asks. ", "I think about it, ", "and then I answer.")


class MixedWorker(ScriptedWorker):
    """What fails once fails on one of two workers that share `times_asked`."""

    def __init__(self, times_asked: dict[str, int] | None = None, **options: Any) -> None:
        super().__init__(max_model_len=262_144, **options)
        self._at_work = 0
        self._read: dict[str, int] = {}  # texts that begin a prompt, with their tokens
        self.times_asked = {} if times_asked is None else times_asked  # by text
        self.kv_usage = 0.0

    @property
    def running(self) -> int:
        return self._at_work

    async def _complete(self, http: HttpRequest, connection: HttpConnection) -> bool:
        self._at_work += 1
        try:
            return await super()._complete(http, connection)
        finally:
            self._at_work -= 1

    def _reply_to(self, request: ReceivedRequest) -> Reply:
        scripted = super()._reply_to(request)
        if not self.requests or self.requests[-1] is not request:
            return scripted  # to the gateway's own question
        text = _last_of_user(request.json)
        kinds: dict[str, Callable[[int], Reply]] = {
            "break": _break,
            "call": _call,
            "empty": _empty,
            "fail-once": _fail_once,
            "forbidden": _forbidden,
            "leak": _leak,
            "loop": _loop,
            "mail": _mail,
            "secret": _secret,
            "sick": _sick,
        }
        kind = text.partition(" ")[0]
        times = self.times_asked[text] = self.times_asked.get(text, 0) + 1
        answer = kinds.get(kind, _chat)(times)
        if not isinstance(answer, Answer):
            return answer
        return self._read_first(answer, request.json, SLOW_SECONDS if kind == "slow" else 0.0)

    def _read_first(self, answer: Answer, asked: Json, silence_seconds: float) -> Answer:
        """In the time that its prompt takes, less what is in the cache."""
        texts = [f"{each['role']}: {each.get('content')}\n" for each in asked["messages"]]
        prompt = "".join(texts)
        tokens = 12 + len(prompt) // CHARACTERS_PER_TOKEN
        known = ("".join(texts[:count]) for count in range(len(texts), 0, -1))
        cached = next((self._read[text] for text in known if text in self._read), 0)
        cached = min(cached, tokens) // 16 * 16  # whole blocks
        self._read[prompt] = tokens
        held = sum(self._read.values()) / CACHE_TOKENS
        self.kv_usage = round(min(held, 1.0) * 0.6 + min(self.running, 10) * 0.03, 3)
        return replace(
            answer,
            prompt_tokens=tokens,
            cached_tokens=cached,
            prefill_seconds=silence_seconds + (tokens - cached) / READ_TOKENS_PER_SECOND,
            pace_seconds=answer.pace_seconds or TOKEN_SECONDS,
        )


def _last_of_user(asked: Json) -> str:
    texts = [each["content"] for each in asked["messages"] if each["role"] == "user"]
    return str(texts[-1])


def _words(count: int) -> list[str]:
    return [f"word {number} " for number in range(count)]


def _chat(times: int) -> Reply:
    return Answer(_words(12 + 7 * times % 20), THOUGHT)


def _break(_: int) -> Reply:
    return Answer(_words(6), THOUGHT, breaks=Break(End.RESET, 6))


def _call(_: int) -> Reply:
    call = ToolCall("get_weather", ('{"city": ', '"Oslo"}'))
    return Answer((), THOUGHT, (call,), "tool_calls")


def _empty(times: int) -> Reply:
    """Until it is asked again."""
    return Answer(_words(8) if times % 2 == 0 else (), THOUGHT)


def _fail_once(times: int) -> Reply:
    return vllm_error(500, "no", kind="InternalServerError") if times == 1 else _chat(times)


def _forbidden(times: int) -> Reply:
    """A tool that was not offered, or arguments that the one that was does not take."""
    call = ToolCall("send_mail", ("{}",)) if times % 2 else ToolCall("get_weather", ("{}",))
    return Answer((), THOUGHT, (call,), "tool_calls")


def _leak(_: int) -> Reply:
    return Answer(["Well. ", "<think>", "Nobody sees this.", "</think>", "Hello."], THOUGHT)


def _loop(_: int) -> Reply:
    return Answer(_words(3), LOOP, pace_seconds=0.001)


def _mail(_: int) -> Reply:
    return Answer(["Ask ", "maria.huber", "@example.org", " or her colleague."], THOUGHT)


def _secret(_: int) -> Reply:
    """Made up, and in two parts, so that no scanner takes it for a real one."""
    return Answer(["Use ", "ghp_", "k3J9xQ2mZ7vL4tR8wN1cB6yD5sF0aH2gE4uP", "."], THOUGHT)


def _sick(times: int) -> Reply:
    """It falls silent once, and then fails at once."""
    if times == 1:
        return Answer(_words(2), THOUGHT, breaks=Break(End.HANG, 3))
    return vllm_error(500, "no", kind="InternalServerError")
