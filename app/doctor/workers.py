"""The workers: do they answer, with which model, how long a context, and as their settings say."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import aiohttp

from app.doctor.finding import Finding, failed, skipped, warned, well
from app.doctor.visit import Visit
from app.doctor.worker_questions import QUESTIONS as QUESTIONS
from app.doctor.worker_questions import ask_questions
from app.doctor.worker_routes import open_routes, version_of
from app.settings import DEFAULT_CONTEXT_TOKENS, Engine, Settings
from app.settings.worker import WorkerSettings
from app.upstream.client import BAD_JSON, WorkerClient
from app.upstream.endpoint import Endpoint
from app.upstream.membership.dns import NoAnswer, addresses_of, worker_at
from app.upstream.membership.file import WorkersRefused, parse_workers, read_file
from app.upstream.prober import card_of, context_tokens_of
from app.upstream.telemetry import parse_metrics

STEPS = 4  # of a check, of which each may take `visit.seconds`, beside the questions
MODEL_WORD = "qwythos"  # in every name under which the model is served, unless somebody chose one
FAILURES = (aiohttp.ClientError, ConnectionError, TimeoutError, *BAD_JSON)


async def find(visit: Visit) -> tuple[list[WorkerSettings], list[Finding]]:
    """All that the settings name, in whichever way; and of what none came out. A name server may
    take `visit.seconds`."""
    settings, findings = visit.settings, list[Finding]()
    named = {worker.name: worker for worker in settings.workers}
    if settings.workers_file is not None:
        try:
            named |= parse_workers(read_file(settings.workers_file))
        except WorkersRefused:  # of which the settings' findings tell
            findings.append(skipped("workers", "those of GATEWAY_WORKERS_FILE are not known"))
    for template in settings.workers_dns:
        try:
            async with asyncio.timeout(visit.seconds):
                addresses = await addresses_of(template.url.host or "")
        except (NoAnswer, TimeoutError) as error:
            words = f"GATEWAY_WORKERS_DNS: {template.url.host}: {error or 'no answer in time'}"
            findings.append(failed("workers", words, "is it the name of a headless service?"))
            continue
        found = (worker_at(template, address) for address in sorted(addresses))
        named = {worker.name: worker for worker in found} | named
    if not named and not findings:
        findings.append(skipped("workers", "none is named"))
    return list(named.values()), findings


async def check(worker: WorkerSettings, visit: Visit) -> Sequence[Finding]:
    name = f"worker {worker.name}"
    endpoint = Endpoint(worker, visit.settings)
    async with WorkerClient(visit.settings) as client:
        try:
            async with asyncio.timeout(visit.seconds):
                card = await _asked(endpoint, client)
        except FAILURES as error:
            return [failed(name, _reason(error), _advice(error))]
        findings = [
            _model(name, endpoint),
            _context(name, endpoint, card, visit.settings),
            await _metrics(name, endpoint, client, visit.seconds),
            await _access(name, worker, visit),
        ]
        if visit.asks_workers:
            findings += await ask_questions(name, endpoint, client, visit.settings)
        else:
            findings.append(skipped(f"{name} thoughts", "it was not asked"))
    return await _with_version(findings, worker, visit)


async def _asked(endpoint: Endpoint, client: WorkerClient) -> int | None:
    """The context's length that it tells. Raises one of FAILURES."""
    if endpoint.dialect.has_health:
        await client.is_healthy(endpoint)
    models = await client.get(endpoint, "/v1/models")
    listed = [card["id"] for card in models["data"]]
    wanted = endpoint.settings.model
    # `transformers serve` lists what is in its cache, which need not be what it serves.
    lists_its_own = endpoint.settings.engine is not Engine.TRANSFORMERS
    if wanted is not None and wanted not in listed and lists_its_own:
        names = ", ".join(map(str, listed)) or "none"
        raise ValueError(f"it does not list the model {wanted}; it lists {names}")
    card = card_of(models["data"], wanted)
    endpoint.learned(card["id"], context_tokens_of(card))
    return context_tokens_of(card)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"it answers with status {error.status} to {error.request_info.url.path}"
    if isinstance(error, LookupError | TypeError | AttributeError):
        return "its list of models is empty, or none"
    return str(error) or "no answer in time"


def _advice(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        if error.status in (401, 403):
            return "its api_key in GATEWAY_WORKERS is not the one that it was started with"
        return "is it an inference server, and has it loaded its model?"
    if isinstance(error, ValueError):
        return "name one that it lists as `model` of the worker, or none"
    return "is the URL right, the server up, and the way to it open?"


def _model(name: str, endpoint: Endpoint) -> Finding:
    model = endpoint.model or ""
    if endpoint.settings.model is not None or MODEL_WORD in model.lower():
        return well(name, f"serves {model}")
    advice = "is it the right one? If so, name it as `model` of the worker"
    return warned(name, f"serves {model}, which is no Qwythos by its name", advice)


def _context(name: str, endpoint: Endpoint, told: int | None, settings: Settings) -> Finding:
    check_name, given = f"{name} context", endpoint.settings.max_model_len
    words = f"{endpoint.context_tokens:,} tokens"
    if told is None and given is None:
        return warned(
            check_name,
            f"it does not say; {DEFAULT_CONTEXT_TOKENS:,} tokens are assumed",
            "give its max_model_len in GATEWAY_WORKERS: a longer prompt is cut without a word",
        )
    if told is not None and given is not None and given > told:
        advice = f"lower its max_model_len in GATEWAY_WORKERS to {told}, or raise the worker's"
        return failed(check_name, f"{given:,} tokens by its settings, {told:,} by its word", advice)
    if endpoint.context_tokens < settings.default_output_tokens:
        advice = "lower GATEWAY_DEFAULT_OUTPUT_TOKENS: an answer of that length does not fit"
        return warned(check_name, words, advice)
    return well(check_name, words)


async def _metrics(name: str, endpoint: Endpoint, client: WorkerClient, seconds: float) -> Finding:
    check_name = f"{name} metrics"
    if not endpoint.dialect.has_metrics:
        return skipped(check_name, f"{endpoint.settings.engine} has none")
    without = "without them the gateway goes by what it gave the worker alone"
    try:
        async with asyncio.timeout(seconds):
            said = parse_metrics(await client.metrics_page(endpoint))
    except FAILURES as error:
        return warned(check_name, _reason(error), f"let it serve /metrics: {without}")
    told = {
        "running requests": said.running,
        "waiting requests": said.waiting,
        "use of the KV cache": said.kv_usage,
        "generated tokens": said.generation_tokens,
        "room in tokens": said.capacity_tokens,
        "its start": said.started_at,
    }
    missing = [what for what, value in told.items() if value is None]
    if not said.says_anything:
        return warned(check_name, "none that is known is among them", without)
    if not missing:
        return well(check_name, "all that are used are there")
    return well(check_name, f"there; without {', '.join(missing)}")


async def _access(name: str, worker: WorkerSettings, visit: Visit) -> Finding:
    check_name = f"{name} access"
    isolate = "let only the gateway reach it, by a network policy: the key does not"
    if worker.api_key is None:
        if worker.url.host in ("127.0.0.1", "localhost", "[::1]"):
            return well(check_name, "it has no key, and is on this machine")
        return warned(check_name, "it has no key: whoever reaches it may use it", isolate)
    opened = await open_routes(worker, visit.seconds)
    if "/v1/models" in opened:
        advice = "start it with --api-key, or take its api_key out of GATEWAY_WORKERS"
        return warned(check_name, "it answers without its key", advice)
    if opened:
        words = f"without its key it answers on {', '.join(opened)}"
        if worker.engine is Engine.VLLM:
            words += "; so does vLLM's /invocations, which generates"
        return warned(check_name, words, isolate)
    return well(check_name, "it answers to its key alone")


async def _with_version(
    findings: list[Finding], worker: WorkerSettings, visit: Visit
) -> list[Finding]:
    """In the first line, where there is one to be had."""
    version = await version_of(worker, visit.seconds)
    first = findings[0]
    if version is None:
        return findings
    return [replace(first, found=f"{first.found}, on {worker.engine} {version}"), *findings[1:]]
