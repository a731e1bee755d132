"""Prompts of a wanted length."""

from typing import Protocol

PHRASE = " apple pear plum tree river stone cloud light house bridge"


class TokenCounter(Protocol):
    def count_tokens(self, text: str) -> int: ...


def long_prompt(opening: str, tokens: int, counter: TokenCounter) -> str:
    """At least `tokens` tokens. Another `opening` shares no prefix, so that nothing is cached."""
    per_phrase = counter.count_tokens(PHRASE * 100) / 100
    return opening + PHRASE * (int(tokens / per_phrase) + 1) + "\n\n"
