"""Control strings in what a user controls, made harmless.

`<|im_start|>`, `</think>` or `<tool_call>` in a message become real control tokens when a worker
tokenises the prompt: a user could speak as the system, or confuse the parser. A zero-width space
after the `<` leaves the text readable and the token unformed.
"""

import re
from collections.abc import Iterable
from typing import Any

CONTROL_STRINGS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
# Each of the above holds one of these: three searches of a long text instead of one for each.
HINTS = ("<|", "think>", "tool_")
_BREAK = "\u200b"
_PATTERN = re.compile("|".join(re.escape(string) for string in CONTROL_STRINGS))


def neutralise(values: Iterable[Any]) -> list[Any]:
    """A copy of JSON values with no control string in any text, keys included."""
    return [_value(value) for value in values]


def neutralise_text(text: str) -> str:
    # A search is ten times as fast as the pattern, and nearly always all that is needed.
    if "<" not in text or not any(hint in text for hint in HINTS):
        return text
    return _PATTERN.sub(lambda match: f"<{_BREAK}{match[0][1:]}", text)


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return neutralise_text(value)
    if isinstance(value, dict):
        return {neutralise_text(key): _value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_value(inner) for inner in value]
    return value
