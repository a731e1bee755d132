"""What only an answer shows of a worker: that it splits the thought off, parses calls, and says how
much of a prompt it had in its prefix cache."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from app.doctor.finding import Finding, failed, skipped, warned, well
from app.errors import GatewayError
from app.protocol.chunks import MalformedChunk
from app.protocol.request import Json
from app.protocol.sse import DONE, SSEDecoder, SSEError
from app.settings import Settings, WorkerCheck
from app.upstream.check import Calls, Outcome, check
from app.upstream.client import WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.engines import rid_of, worker_body

QUESTIONS = 4  # two of the check, two of the cache

# Prefixes are kept in blocks, of up to 2,096 tokens for a hybrid model: at some ten tokens a
# sentence the prompt has one of them for certain.
CACHED_SENTENCES = 220
CACHED_PROMPT_TOKENS = 8_192  # at most, by any tokeniser, with its answer
ANSWER_TOKENS = 8
CACHE_ADVICE = "start vLLM with --enable-prompt-tokens-details, so that it says what it had"
PREFIX_ADVICE = "is its prefix cache on? vLLM: --enable-prefix-caching"


async def ask_questions(
    name: str, endpoint: Endpoint, client: WorkerClient, settings: Settings
) -> Sequence[Finding]:
    verdict = await check(endpoint, client, settings.worker_check_seconds)
    thoughts = f"{name} thoughts"
    if verdict.outcome is Outcome.UNDECIDED:
        advice = "ask again when it has less to do; the gateway does"
        return [warned(thoughts, verdict.reason, advice)]
    if verdict.outcome is Outcome.FAILED:
        words, advice = _advised(verdict.reason)
        refuses = settings.worker_check is WorkerCheck.REFUSE
        return [(failed if refuses else warned)(thoughts, words, advice)]
    findings = [_thoughts(thoughts, endpoint), *_calls(name, endpoint)]
    if endpoint.dialect.caches_prefixes:
        findings.append(await _cache(f"{name} prefix cache", endpoint, client, settings))
    return findings


def _advised(reason: str) -> tuple[str, str]:
    """Its reasons say what to change behind a colon."""
    words, colon, advice = reason.partition(": ")
    return words, advice if colon else "its own log says more"


def _thoughts(check_name: str, endpoint: Endpoint) -> Finding:
    if not endpoint.settings.thinks:
        return well(check_name, "none, as its settings say; its text is believed")
    return well(check_name, f"split off as its settings say ({endpoint.settings.separation})")


def _calls(name: str, endpoint: Endpoint) -> Sequence[Finding]:
    if endpoint.calls is None:
        return []
    if endpoint.calls == Calls.IN_TEXT:
        advice = "vLLM: --enable-auto-tool-choice --tool-call-parser qwen3_coder"
        return [warned(f"{name} calls", "left in the text, where the gateway reads them", advice)]
    words = "parsed" if endpoint.calls == Calls.PARSED else "it made none, which models may"
    return [well(f"{name} calls", words)]


async def _cache(
    check_name: str, endpoint: Endpoint, client: WorkerClient, settings: Settings
) -> Finding:
    if endpoint.context_tokens < CACHED_PROMPT_TOKENS:
        return skipped(check_name, "its context is too short for a prompt that would show it")
    try:
        async with asyncio.timeout(2 * settings.worker_check_seconds):
            await _usage(endpoint, client, settings)
            usage = await _usage(endpoint, client, settings)
    except (GatewayError, SSEError, MalformedChunk, TimeoutError) as error:
        words = f"it could not be asked: {type(error).__name__}"
        return warned(check_name, words, "its own log says more")
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        return warned(check_name, "it does not say how much of a prompt it had", CACHE_ADVICE)
    words = f"{cached} of {usage.get('prompt_tokens')} tokens of a prompt that it had just read"
    return well(check_name, words) if cached else warned(check_name, words, PREFIX_ADVICE)


async def _usage(endpoint: Endpoint, client: WorkerClient, settings: Settings) -> dict[str, Any]:
    """What it reports of the same long prompt each time. Raises what asking raises."""
    sentences = " ".join(f"Line {n} says {n * 7}." for n in range(CACHED_SENTENCES))
    fields: Json = {
        "messages": [{"role": "user", "content": f"{sentences} Say yes."}],
        "max_tokens": ANSWER_TOKENS,
        "thinking_token_budget": ANSWER_TOKENS // 2,
    }
    request_id = f"req_check_{secrets.token_hex(8)}"
    rid = rid_of(endpoint.dialect, request_id)
    body = worker_body(endpoint.dialect, endpoint.settings, endpoint.model or "", fields, rid)
    seconds = settings.worker_check_seconds
    stream = await client.open(
        endpoint, body, request_id=request_id, first_byte_seconds=seconds, rid=rid, ours=True
    )
    decoder, found = SSEDecoder(), dict[str, Any]()
    try:
        while data := await stream.read():
            for payload in decoder.feed(data):
                found = _reported(payload) or found
    finally:
        stream.close()
    return found


def _reported(payload: bytes) -> dict[str, Any] | None:
    if payload == DONE:
        return None
    try:
        usage = orjson.loads(payload).get("usage")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return usage if isinstance(usage, dict) else None
