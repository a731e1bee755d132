"""How large a prompt a key may send, beside the limits of every key."""

import pytest

from tests.support.gateway import RunningGateway
from tests.support.scripted_worker import ScriptedWorker


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.mark.parametrize(
    ("bound", "messages", "code"),
    [
        ({"max_messages": 2}, turns("a", "b", "c"), "array_above_max_length"),
        ({"max_prompt_characters": 100}, turns("x" * 60, "y" * 60), "string_above_max_length"),
    ],
)
async def test_a_prompt_over_the_keys_bounds_is_refused(
    bound: dict[str, int],
    messages: list[dict[str, str]],
    code: str,
    gateway: RunningGateway,
    worker: ScriptedWorker,
) -> None:
    key = await gateway.issue_key(**bound)
    refused = await gateway.chat(key=key, messages=messages)
    assert (refused.status, refused.error["code"]) == (400, code)
    assert refused.error["param"] == "messages"
    assert not worker.requests
    row = await gateway.audited(refused.request_id)
    assert (row.outcome, row.error_code) == ("refused", code)
    assert (await gateway.chat(key=key, messages=messages[:1])).status == 200


async def test_the_bound_is_of_characters_and_not_of_bytes(gateway: RunningGateway) -> None:
    key = await gateway.issue_key(max_prompt_characters=100)
    assert (await gateway.chat(key=key, messages=turns("\u6d4b" * 80))).status == 200
