"""The official Node SDK, with its retries on, against limits.

It needs what comes from no Python index: `node`, and `npm ci` in tests/node.
"""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.limits_http.limiting import issue, remaining
from tests.support.answers import Answer
from tests.support.gateway import HELLO, Json, RunningGateway
from tests.support.scripted_worker import ScriptedWorker

FOLDER = Path(__file__).parents[2] / "node"
NODE = shutil.which("node")
NODE_SECONDS = 90.0  # to start, and to try three times; only spent on failure
# So often `node` may take so long to start that enough has come back, and it is not refused.
TOO_LATE = 5
# 500 tokens come back each second.
TPM = 30_000
TAKES_ALL = Answer(prompt_tokens=20, completion_tokens=29_880)

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="there is no `node` on PATH"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules" / "openai").is_dir(),
        reason="the Node SDK is not installed; run `npm ci` in tests/node",
    ),
]


async def ask(gateway: RunningGateway, key: str, *, max_retries: int = 2, **fields: object) -> Json:
    """What the SDK made of one completion, and the statuses of its tries."""
    assert NODE is not None
    request = json.dumps({"model": "qwythos", "messages": HELLO} | fields)
    arguments = (f"{gateway.url}/v1", key, str(max_retries), request)
    process = await asyncio.create_subprocess_exec(
        NODE, FOLDER / "ask.mjs", *arguments, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(NODE_SECONDS):
        out, _ = await process.communicate()
    assert process.returncode == 0
    outcome: Json = json.loads(out)
    return outcome


@pytest.mark.parametrize("stream", [False, True])
async def test_it_waits_as_it_is_told_and_succeeds(
    stream: bool, limited: RunningGateway, worker: ScriptedWorker
) -> None:
    worker.prompt_tokens = 100
    for _ in range(TOO_LATE):
        issued = await issue(limited, tokens_per_minute=TPM)
        worker.answers(TAKES_ALL, Answer(["Hello"]))
        assert (await limited.chat(key=issued.secret, max_tokens=29_000)).status == 200
        outcome = await ask(limited, issued.secret, max_tokens=1_000, stream=stream)
        if outcome["tries"] != [200]:
            break
    # One try was too soon, and the next one was not: it waited long enough.
    assert outcome["tries"] == [429, 200]
    assert outcome["text"] == "Hello"


@pytest.mark.parametrize("max_tokens", [20_000, TPM + 1])
async def test_it_does_not_repeat_what_no_waiting_admits(
    max_tokens: int, limited: RunningGateway, worker: ScriptedWorker
) -> None:
    """A budget that is spent, and a request that is too large."""
    issued = await issue(limited, tokens_per_day=40_000, tokens_per_minute=TPM)
    worker.answers(TAKES_ALL)
    assert (await limited.chat(key=issued.secret, max_tokens=29_000)).status == 200
    outcome = await ask(limited, issued.secret, max_tokens=max_tokens)
    assert outcome["tries"] == [429]
    assert outcome["error"] == "RateLimitError"
    assert (outcome["code"], outcome["type"]) == ("insufficient_quota",) * 2


async def test_it_does_not_repeat_a_prefill_that_is_too_long(limited: RunningGateway) -> None:
    issued = await issue(limited, max_cold_prefill_tokens=1)
    outcome = await ask(limited, issued.secret, messages=[{"role": "user", "content": "a " * 99}])
    assert (outcome["tries"], outcome["code"]) == ([409], "cold_prefill_too_long")


async def test_it_carries_the_headers(limited: RunningGateway) -> None:
    issued = await issue(limited, tokens_per_minute=TPM, requests_per_minute=3)
    outcome = await ask(limited, issued.secret, max_tokens=500)
    assert outcome["text"] == "Hello there."
    assert remaining(outcome["headers"], "requests") == 2
    assert TPM - 600 < remaining(outcome["headers"], "tokens") < TPM
