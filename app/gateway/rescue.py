"""An answer that came to nothing, tried once more.

A thought that used up the whole output leaves no answer: with the key's leave, the model goes on
behind its thought, which we close. An answer without a word, or with a call that cannot be used, is
asked for again. Either happens once, before its client has seen anything but thought.
"""

from dataclasses import replace

from app.errors import UpstreamFailed
from app.gateway.meter import Meter
from app.gateway.types import PreparedRequest, Rescue
from app.protocol.answer import AnswerReader
from app.protocol.neutralise import neutralise_text
from app.upstream.workers import Workers

MAX_SEED = 2**63 - 1
# Not for a continuation: the thought is over, and the answer begins at once.
_OF_THE_THOUGHT = ("thinking_token_budget",)


def rescue(prepared: PreparedRequest, meter: Meter, workers: Workers) -> PreparedRequest | None:
    """What to ask instead, or None where the answer stands as it is.

    Raises UpstreamFailed (`empty_answer`, `invalid_tool_call`, `tool_call_refused`,
    `tool_call_missing`) where the second try came to nothing too, or the first one may not be
    repeated.
    """
    reader = meter.readers[-1]
    failure = _failure(prepared, reader)
    if failure is None:
        return _continuation(prepared, reader, meter, workers)
    if prepared.rescue or len(reader.choices) > 1 or reader.choices[0].answered:
        raise failure
    meter.rescues.append(Rescue.RETRY)
    return replace(prepared, rescue=Rescue.RETRY, fields=_with_another_seed(prepared))


def stands(asked: PreparedRequest, meter: Meter) -> bool:
    """Whether the answer before stands, now that this try has failed: a continuation that showed
    nothing was a convenience."""
    if asked.rescue is not Rescue.SALVAGE:
        return False
    return len(meter.readers) < 2 or not meter.readers[-1].choices[0].answered


def _failure(prepared: PreparedRequest, reader: AnswerReader) -> UpstreamFailed | None:
    """How an answer that came to its own end fails nevertheless."""
    ended = [choice for choice in reader.choices if choice.finish in ("stop", "tool_calls")]
    # Our own stop sequence may stand at the very beginning: that is an answer, and an empty one.
    ended = [choice for choice in ended if not choice.stopped]
    if len(reader.choices) > 1 and any(choice.answered for choice in reader.choices):
        return None  # the client can choose among those that there are
    for choice in ended:
        refused = choice.gate.refused
        if refused is not None and refused.broken and not choice.gate.released:
            return _failed(
                "The model called a tool in a way that cannot be used.", "invalid_tool_call"
            )
    if prepared.call_required and any(not choice.gate.released for choice in ended):
        return _failed(
            "The model did not call a tool although 'tool_choice' requires it.",
            "tool_call_missing",
        )
    empty = [choice for choice in ended if not choice.answered]
    if any(choice.gate.refused for choice in empty):
        return _failed("The model called a tool that it may not call.", "tool_call_refused")
    if empty:
        return _failed("The model gave an empty answer.", "empty_answer")
    return None


def _failed(message: str, code: str) -> UpstreamFailed:
    """An SDK need not ask again: that was done."""
    return UpstreamFailed(message, code=code, should_retry=False)


def _with_another_seed(prepared: PreparedRequest) -> dict[str, object]:
    """Without a seed no two answers are the same anyway."""
    fields = dict(prepared.fields)
    if "seed" in fields:
        fields["seed"] = 0 if fields["seed"] == MAX_SEED else fields["seed"] + 1
    return fields


def _continuation(
    prepared: PreparedRequest, reader: AnswerReader, meter: Meter, workers: Workers
) -> PreparedRequest | None:
    """The same prompt with the thought in it, closed; None where that may not or need not be."""
    tokens = prepared.salvage_tokens
    if tokens is None or prepared.rescue is not None or len(reader.choices) > 1:
        return None
    (choice,) = reader.choices
    if choice.finish != "length" or choice.answered or not choice.thought.strip():
        return None
    if not meter.worker_continues:
        return None
    needed = reader.usage(prepared.prompt_tokens).total_tokens + tokens
    if needed > workers.context_tokens:
        return None
    thought = neutralise_text(choice.thought)
    turn = {
        "role": "assistant",
        "content": "",
        # The one name is vLLM's, the other the template's.
        "reasoning": thought,
        "reasoning_content": thought,
    }
    fields = {k: v for k, v in prepared.fields.items() if k not in _OF_THE_THOUGHT}
    fields |= {
        "messages": [*prepared.fields["messages"], turn],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "max_tokens": tokens,
    }
    meter.rescues.append(Rescue.SALVAGE)
    return replace(
        prepared,
        rescue=Rescue.SALVAGE,
        fields=fields,
        max_tokens=tokens,
        prompt_tokens=needed - tokens,
        needed_tokens=needed,
    )
