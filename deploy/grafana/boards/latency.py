"""Where time and tokens go, by model, by pool and by worker."""

from collections.abc import Iterator

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Query, lines, stat
from deploy.grafana.promql import most, or_none, quantile, rate, total

TOKENS = "gateway_tokens_total"
POOL_TOKENS = "gateway_upstream_tokens_total"
READ = rate(TOKENS, where='kind="prompt"')
CACHED = rate(TOKENS, where='kind="cached"')
WRITTEN = rate(TOKENS, where='kind="completion"')


def _quantiles(
    histogram: str,
    by: str = "",
    *,
    shares: tuple[float, ...] = (0.5, 0.95),
    exemplars: bool = False,
) -> Iterator[Query]:
    legend = f" {{{{{by}}}}}" if by else ""
    for share in shares:
        yield Query(quantile(share, histogram, by=by), f"p{share * 100:g}{legend}", exemplars)


def _now() -> Row:
    return Row("Now", [
        stat(
            "First token, p50", "s", quantile(0.5, "gateway_time_to_first_token_seconds"),
            "Half of the requests had their first visible token within it.",
        ),
        stat(
            "First token, p95", "s", quantile(0.95, "gateway_time_to_first_token_seconds"),
            "Long prompts take minutes to be read: compare it with the lengths that are asked.",
            orange=30, red=120,
        ),
        stat(
            "Between tokens, p95", "s", quantile(0.95, "gateway_inter_token_latency_seconds"),
            "Above 0.1 s people see a stutter: workers batch too much, or read a long prompt "
            "meanwhile.",
            orange=0.1, red=0.5,
        ),
        stat(
            "Tokens written", "short", WRITTEN,
            "A second, over all workers, thoughts included.",
        ),
        stat(
            "Prompts from cache", "percentunit", f"{or_none(CACHED)} / {READ}",
            "Of the prompts' tokens, those that a worker had in its prefix cache. Chats reach 80 % "
            "and more. Low: the edge spreads conversations over replicas, the caches are too "
            "small, or workers lack --enable-prompt-tokens-details and do not say.",
        ),
        stat(
            "Reading saved", "none", rate("gateway_prefill_seconds_saved_total"),
            "Seconds of reading that caches saved, in each second: so many workers more would be "
            "needed without them. Estimated at the speed at which each worker was seen to read.",
            decimals=2,
        ),
    ])  # fmt: skip


def _felt() -> Row:
    return Row("What clients feel", [
        lines(
            "Time to first token", "s",
            "From a request's arrival to the first token that its client may see: our own work, "
            "the queue, the reading of the prompt, and the thought where that is hidden. Below are "
            "the parts. Points are single requests, each with its trace.",
            *_quantiles(
                "gateway_time_to_first_token_seconds", "model",
                shares=(0.5, 0.95, 0.99), exemplars=True,
            ),
        ),
        lines(
            "Time between tokens", "s",
            "Between two deliveries to a client. A rise at the same load: workers are near their "
            "limit, or share their GPUs.",
            *_quantiles("gateway_inter_token_latency_seconds", "model", shares=(0.5, 0.95, 0.99)),
        ),
        lines(
            "Duration of requests", "s",
            "Streamed and whole answers alike. A rise while the times above stand still: answers "
            "have become longer.",
            *_quantiles("gateway_request_duration_seconds", "model", shares=(0.5, 0.95, 0.99)),
        ),
    ])  # fmt: skip


def _parts() -> Row:
    return Row("Where the time goes, in this order", [
        lines(
            "1. In the gateway", "s",
            "From a request's reception, its body included, to its waiting for a worker. Normally "
            "milliseconds: more are slow uploads, large prompts to be filtered, or a gateway short "
            "of processor time.",
            *_quantiles("gateway_overhead_seconds", shares=(0.5, 0.95, 0.99)),
        ),
        lines(
            "2. In the queue", "s",
            "Of requests that had to wait and got a worker. Above some seconds the pool is too "
            "small for its traffic.",
            *_quantiles("gateway_queue_wait_seconds", "priority"),
        ),
        lines(
            "3. At the worker, until its first token", "s",
            "The reading of the prompt and the wait inside of the engine, by pool (the workers' "
            "tags). One pool alone: long prompts stand there in each other's way.",
            *_quantiles("gateway_upstream_first_token_seconds", "pool"),
        ),
        lines(
            "4. In the filter", "s",
            "Time that text of an answer waited because it might become a match. A rule that is "
            "long holds back some twenty tokens; `gateway rules list` has the most for each.",
            *_quantiles("gateway_filter_hold_back_seconds", shares=(0.5, 0.95, 0.99)),
        ),
        lines(
            "5. In the event loop", "s",
            "How late the loop gets its turn; it delays all of the above and every token.",
            *_quantiles("gateway_event_loop_lag_seconds", shares=(0.5, 0.99)),
            red=0.5,
        ),
        lines(
            "Signs of life", "ops",
            "Comments for proxies and empty deltas for clients, sent into silent streams. Many: "
            "prompts are long, or workers are slow. Clients see no error because of these.",
            Query(rate("gateway_keepalives_total", by="kind"), "{{kind}}"),
        ),
    ])  # fmt: skip


def _tokens() -> Row:
    return Row("Tokens", [
        lines(
            "Tokens by kind", "short",
            "A second. completion contains reasoning, prompt contains cached: what a worker had to "
            "read is prompt less cached.",
            Query(rate(TOKENS, by="kind"), "{{kind}}"),
        ),
        lines(
            "Tokens written, by model and pool", "short",
            "A second, of answers and thoughts. A pool that stays behind the others at the same "
            "load has a slow worker in it.",
            Query(rate(TOKENS, by="model", where='kind="completion"'), "{{model}}"),
            Query(rate(POOL_TOKENS, by="pool", where='kind="completion"'), "pool {{pool}}"),
        ),
        lines(
            "Tokens to be read, by pool", "short",
            "A second, of prompts less what was cached: the work that makes long prompts slow. "
            "Compare it with what a pool was measured to read (`gateway smoke`).",
            Query(
                f"{rate(POOL_TOKENS, by='pool', where=_kind('prompt'))} - "
                f"{rate(POOL_TOKENS, by='pool', where=_kind('cached'))}",
                "pool {{pool}}",
            ),
        ),
        lines(
            "Thought, of what was written", "percentunit",
            "The model thinks before it answers. Near 100 %: answers are cut before they begin, "
            "see Answers that we ended on the safety board.",
            Query(f"{or_none(rate(TOKENS, where=_kind('reasoning')))} / {WRITTEN}", "thought"),
            ceiling=1,
        ),
        lines(
            "Estimates of prompts", "none",
            "Estimated over reported tokens. Limits and placement go by the estimate: far from 1, "
            "keys are refused too early or workers overfilled.",
            *_quantiles("gateway_prompt_estimate_ratio", shares=(0.1, 0.5, 0.9)),
        ),
        lines(
            "Long prompts begun", "ops",
            "Prompts to be read that are long enough to be felt by all others on their worker "
            "(GATEWAY_LONG_PREFILL_TOKENS). If they are many, give them a pool of their own.",
            Query(rate("gateway_long_prefills_total"), "long prompts"),
        ),
    ])  # fmt: skip


def _kind(kind: str) -> str:
    return f'kind="{kind}"'


def _caches() -> Row:
    return Row("Prefix caches", [
        lines(
            "Was it where we looked for it?", "reqps",
            "Prompts whose worker told what it had cached. hit: most of what we expected; miss: it "
            "was gone, the cache is too small; none: nobody was expected to know it.",
            Query(rate("gateway_affinity_lookups_total", by="result"), "{{result}}"),
            stacked=True,
        ),
        lines(
            "Reading saved over time", "none",
            "Seconds of reading saved in each second, estimated.",
            Query(rate("gateway_prefill_seconds_saved_total"), "saved"),
        ),
        lines(
            "Why that worker?", "reqps",
            "affinity: it knows the beginning; rendezvous: a new conversation; load: its own "
            "worker had too much to do; overflow: none of those that are meant for it had room. "
            "Much load and overflow lose what caches could save.",
            Query(rate("gateway_placements_total", by="reason"), "{{reason}}"),
            stacked=True,
        ),
    ])  # fmt: skip


def _workers() -> Row:
    return Row("Workers", [
        lines(
            "In flight", "none",
            "Requests that a worker is serving for us. Uneven for long: conversations keep to "
            "their workers, or one is ejected.",
            Query(total("gateway_worker_in_flight", by="worker"), "{{worker}}"),
        ),
        lines(
            "Prompt tokens being read", "short",
            "Given to a worker and not read yet. Steady at a high level: it reads without a pause, "
            "and what comes has to wait.",
            Query(total("gateway_worker_prefill_tokens", by="worker"), "{{worker}}"),
        ),
        lines(
            "KV cache in use", "percentunit",
            "As a worker says. Near 100 % the engine preempts requests and forgets prefixes: "
            "shorten contexts, add workers, or use an fp8 cache.",
            Query(most("gateway_worker_reported_kv_usage_ratio", by="worker"), "{{worker}}"),
            red=0.95, ceiling=1,
        ),
        lines(
            "Running and waiting there", "none",
            "As a worker says, of all who ask it. Waiting above 0 for long while ours are few: "
            "somebody else uses it.",
            Query(most("gateway_worker_reported_running", by="worker"), "{{worker}} runs"),
            Query(most("gateway_worker_reported_waiting", by="worker"), "{{worker}} waits"),
        ),
        lines(
            "Answers by worker", "reqps",
            "Requests that a worker answered.",
            Query(
                rate("gateway_upstream_requests_total", by="worker", where='outcome="ok"'),
                "{{worker}}",
            ),
            stacked=True,
        ),
        lines(
            "Second tries for an answer", "reqps",
            "Answers that came to nothing and were asked for again (retry), or gone on with behind "
            "their thought (salvage). Each costs a worker another answer.",
            Query(
                rate("gateway_answers_rescued_total", by="kind, outcome"),
                "{{kind}} {{outcome}}",
            ),
        ),
    ])  # fmt: skip


LATENCY = Board(
    "latency",
    "Qwythos Gateway / Latency and tokens",
    "Where time and tokens go, by model, by pool and by worker.",
    [_now(), _felt(), _parts(), _tokens(), _caches(), _workers()],
)
