"""What makes SmolLM2-135M think aloud as Qwythos does, and answer as well as it can.

The chat template opens `<think>` itself and the grammar writes the rest of the frame, so the output
is a thought, `</think>` and the answer, with no opening tag: what a worker without a reasoning
parser sends. A model this small cannot reason, but it copies well: its thought repeats what the
user said, and so puts the question right before the answer. Five examples in the template show it
how; without them it comments on its own thought instead of answering.
"""

from importlib.resources import files
from typing import Any

# Characters of the user's words that a thought repeats; the template cuts past turns alike.
QUOTED_CHARACTERS = 80

# The quote ends where the model closes it, or at the bound; either way the rest follows. The answer
# may hold any character but `<`, which starts markup and the control tokens of other models, and it
# ends when the model ends it.
GRAMMAR = rf"""
root ::= thought "\n</think>\n\n" answer
thought ::= "The user says: \"" quoted "\" I answer this clearly and correctly."
quoted ::= [^<"\n]{{1,{QUOTED_CHARACTERS}}}
answer ::= [^< \n] [^<]*
"""

# Where the client names none. Warmer, this model leaves the question; without the `dry` penalty,
# which counts repetitions of more than eight tokens, most of its long answers end in a loop.
SAMPLING: dict[str, Any] = {
    "temperature": 0.1,
    "min_p": 0.1,
    "repetition_penalty": 1.05,
}
AGAINST_LOOPS: dict[str, Any] = {
    "dry_multiplier": 0.8,
    "dry_allowed_length": 8,  # tokens: the thought may repeat this much of the question freely
    "dry_penalty_last_n": 400,  # tokens
}


def chat_template() -> str:
    """The Jinja template that the server is started with."""
    return files("app.embedded").joinpath("smollm2.jinja").read_text("utf-8")


def sampling_defaults() -> dict[str, Any]:
    """Fields of a request to this model, where the client gave none."""
    return dict(SAMPLING)


def request_fields() -> dict[str, Any]:
    """Fields that every request to this model carries, whatever the client asked for."""
    return {"grammar": GRAMMAR, **AGAINST_LOOPS}
