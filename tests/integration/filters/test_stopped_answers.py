"""A client's own `stop` may cut a match in two: what it would have been is known from what comes
behind, which nobody sees."""

import pytest

from tests.integration.filters.samples import ADDRESS, TOKEN
from tests.integration.filters.test_answers_filtered import finishes, shown, streamed_or_folded
from tests.support.answers import Answer
from tests.support.gateway import RunningGateway
from tests.support.scripted_worker import ScriptedWorker


@streamed_or_folded
@pytest.mark.parametrize("pieces", [1, 3, 400])
@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        (f"Mail {ADDRESS} today, or call.", "@", "Mail [email]"),
        (f"The key is {TOKEN} and more.", TOKEN[10:14], "The key is [github-token]"),
        ("See postgres://u:p4ssWord9x@db.example/x now.", "@", "See postgres[url-password]"),
        # What was to become no match is all there.
        ("Hello world. And more of it.", ".", "Hello world"),
        ("Hello world", "rld", "Hello wo"),
        ("Hello world.\nEND", "END", "Hello world.\n"),
    ],
)
async def test_what_the_stop_sequence_cuts_in_two_is_masked(
    text: str,
    stop: str,
    left: str,
    pieces: int,
    stream: bool,
    gateway: RunningGateway,
    worker: ScriptedWorker,
) -> None:
    size = -(-len(text) // pieces)
    worker.answers(Answer([text[at : at + size] for at in range(0, len(text), size)]))
    response = await gateway.chat(stream=stream, stop=[stop])
    assert shown(response) == left
    assert finishes(response) == {0: "stop"}


async def test_what_blocks_behind_the_stop_sequence_ends_the_answer(
    gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    key = await gateway.issue_key(filter_profile="strict")
    worker.answers(Answer([f"The key is {TOKEN[:12]}", TOKEN[12:], " and more."]))
    response = await gateway.chat(key=key, stop=[TOKEN[10:14]])
    assert shown(response) == "The key is "
    assert finishes(response) == {0: "content_filter"}
