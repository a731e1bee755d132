"""What of a request is there for workers' caches: its conversation, and a prompt that stays."""

from typing import Any

import orjson

from app.api.parse import parse_chat
from app.protocol.request import ChatRequest
from app.settings import Settings

SETTINGS = Settings()
USER = {"role": "user", "content": "hi"}


def parse(**fields: Any) -> ChatRequest:
    return parse_chat(orjson.dumps({"model": "qwythos", "messages": [USER]} | fields), SETTINGS)


def test_the_cache_key_names_the_conversation() -> None:
    assert parse(prompt_cache_key="session 1").affinity_hint == "session 1"
    assert parse(prompt_cache_key="").affinity_hint is None
    assert parse().affinity_hint is None


def test_a_line_that_is_another_in_each_request_reaches_no_worker() -> None:
    line = "x-anthropic-billing-header: cc_version=2.1.177; cch=36ee5;"
    text = {"role": "system", "content": f"{line}\nYou are an agent."}
    (system, _) = parse(messages=[text, USER]).messages
    assert system == {"role": "system", "content": "You are an agent."}
    alone = {"role": "system", "content": line}
    parts = {"role": "system", "content": [{"type": "text", "text": line}]}
    assert parse(messages=[alone, parts, USER]).messages == (USER,)
    request = parse(messages=[alone, text, USER])
    assert (request.messages[0], request.sent_as) == (system, (1, 2))
    assert parse(messages=[USER | {"content": line}]).messages == (USER | {"content": line},)
