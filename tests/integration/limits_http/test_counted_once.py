"""A request counts once against requests per minute, however early it ends."""

from tests.integration.limits_http.limiting import issue, remaining
from tests.support.gateway import RunningGateway
from tests.support.scripted_worker import ScriptedWorker

PER_MINUTE = 10  # it fills by one in six seconds
WORDS = [{"role": "user", "content": "word " * 800}]  # some 1,000 tokens


async def test_one_that_is_refused_while_it_is_admitted_is_counted_once(
    either: RunningGateway, worker: ScriptedWorker
) -> None:
    """So near to the end of its budget that the worker counts its prompt, and finds it too long."""
    issued = await issue(either, requests_per_minute=PER_MINUTE, tokens_per_day=1_400)
    worker.prompt_tokens = worker.max_model_len
    response = await either.chat(key=issued.secret, messages=WORDS, max_tokens=100)
    assert (response.status, response.json["error"]["code"]) == (400, "context_length_exceeded")
    assert remaining(response.headers, "requests") == PER_MINUTE - 1
