"""Whether an answer is whole and right. A fast wrong answer is no figure."""

import orjson

from bench.scenarios import THOUGHT, WORD, Scenario

DONE = b"data: [DONE]\n\n"


def fault_of(scenario: Scenario, status: int, body: bytes, *, gateway: bool) -> str | None:
    """What is wrong with one answer, or None. Cheap enough to be asked of every one."""
    if status != 200:
        return f"status {status}: {body[:300].decode('utf-8', 'replace')}"
    if gateway and THOUGHT.encode() in body:
        return "the thought reached the client"
    if body.count(WORD.encode()) != scenario.answer_pieces:
        return "the answer's text is not whole"
    if is_streamed(scenario, gateway=gateway) and not body.endswith(DONE):
        return "the stream did not end with [DONE]"
    return None


def thorough_fault_of(scenario: Scenario, status: int, body: bytes, *, gateway: bool) -> str | None:
    """The same, and every event parsed: for one answer in each load."""
    fault = fault_of(scenario, status, body, gateway=gateway)
    if fault is not None:
        return fault
    try:
        if is_streamed(scenario, gateway=gateway):
            text, reason, thought_tokens = _read_stream(body)
        else:
            text, reason, thought_tokens = _read_whole(body)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        return f"the answer cannot be read: {type(error).__name__}: {error}"
    if text != WORD * scenario.answer_pieces:
        return f"the answer's text is {text[:80]!r}"
    if reason != "stop":
        return f"the finish reason is {reason!r}"
    if thought_tokens != scenario.thought_pieces:
        return f"usage tells {thought_tokens} tokens of thought"
    return None


def is_streamed(scenario: Scenario, *, gateway: bool) -> bool:
    """nginx hands the worker's events on whatever was asked; the gateway folds them."""
    return scenario.stream or not gateway


def _read_stream(body: bytes) -> tuple[str, str | None, int | None]:
    text, reason, thought_tokens = "", None, None
    for event in body.removesuffix(DONE).split(b"\n\n"):
        if not event.startswith(b"data: "):
            continue
        chunk = orjson.loads(event[len(b"data: ") :])
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
        if chunk.get("usage") is not None:
            thought_tokens = chunk["usage"]["completion_tokens_details"]["reasoning_tokens"]
    return text, reason, thought_tokens


def _read_whole(body: bytes) -> tuple[str, str | None, int | None]:
    completion = orjson.loads(body)
    choice = completion["choices"][0]
    thought_tokens = completion["usage"]["completion_tokens_details"]["reasoning_tokens"]
    return choice["message"]["content"], choice["finish_reason"], thought_tokens
