"""Prompts of many scripts and lengths."""

from app.protocol.prompt_text import PromptText, prompt_text
from app.protocol.request import Json
from app.protocol.token_estimate import Script

# A word of each script, as it stands in ordinary texts.
WORDS = {
    Script.LATIN: "straight",
    Script.CYRILLIC: "слово",
    Script.ARABIC: "كلمة",
    Script.INDIC: "शब्द",
    Script.CJK: "言葉",
    Script.OTHER: "ဝေါဟာရ",
}


def text_of(*contents: str, tools: list[Json] | None = None) -> PromptText:
    """Of a conversation: users' and assistants' turns by turns."""
    messages = [
        {"role": "assistant" if turn % 2 else "user", "content": content}
        for turn, content in enumerate(contents)
    ]
    return prompt_text({"messages": messages} | ({"tools": tools} if tools else {}))
