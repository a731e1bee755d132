"""What the shipped rules find, and a worker that says it in several choices at once.

The secrets are made up, and written in two parts so that no scanner of repositories takes them for
real ones.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.rule import Action, Rule
from app.rules.rulebook import Profile, Rulebook
from tests.support.answers import RawStream
from tests.support.gateway import RunningGateway

TOKEN = "ghp_" + "k3J9xQ2mZ7vL4tR8wN1cB6yD5sF0aH2gE4uP"
CARD = "4539 1488 " + "0343 6467"
ADDRESS = "Maria.Huber@" + "example.org"
MASKS = {TOKEN: "[github-token]", CARD: "[card]", ADDRESS: "[email]"}

Json = dict[str, Any]


def text_holding(secret: str) -> str:
    return f"As asked: {secret} is it."


def interleaved(deltas: Iterable[tuple[int, Json]], finishes: Mapping[int, str]) -> RawStream:
    """A stream of these deltas, each with the index of its choice, in this order."""
    chunks: list[tuple[int, Json, str | None]] = [(index, delta, None) for index, delta in deltas]
    chunks += [(index, {}, reason) for index, reason in finishes.items()]
    events = (
        {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}
        for index, delta, reason in chunks
    )
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return RawStream(f"{body}data: [DONE]\n\n".encode())


def in_turns(texts: Mapping[int, str]) -> list[tuple[int, Json]]:
    """A thought of each choice, then a character of each, then the next one of each."""
    longest = max(map(len, texts.values()))
    thoughts = [(choice, {"reasoning": "Well."}) for choice in texts]
    return thoughts + [
        (choice, {"content": text[at]})
        for at in range(longest)
        for choice, text in texts.items()
        if at < len(text)
    ]


def write_rules(path: Path, text: str) -> Path:
    """In one step, as a mounted volume changes: nobody reads half a file."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, "utf-8")
    return draft.replace(path)


def use_rule(gateway: RunningGateway, rule: Rule) -> None:
    """From now on this one rule masks answers and prompts. No file could hold it: a validator that
    fails or waits is not among those that a rule can name."""
    rules = FilterRules([(rule, Action.MASK)])
    actions = {rule.id: Action.MASK}
    profile = Profile("default", rules, rules, actions, actions, domains={}, dry_run=False)
    gateway.app.state.gateway.rules.current = Rulebook({}, {"default": profile})


async def metrics_of(gateway: RunningGateway) -> str:
    return (await gateway.request("GET", "/metrics")).body.decode()
