"""What was kept from clients, what was refused, and whether the audit log holds."""

from deploy.grafana.board import Board, Row
from deploy.grafana.panels import Panel, Query, bars, lines, stat
from deploy.grafana.promql import increase, most, or_none, rate

HITS = "gateway_filter_hits_total"
TOP_RULES = 15


def _now() -> Row:
    return Row("In the time shown", [*_must_be_none(), *_kept()])


def _must_be_none() -> list[Panel]:
    lost = [
        increase("gateway_audit_records_set_aside_total"),
        increase("gateway_audit_chain_breaks_total"),
    ]
    return [
        stat(
            "Hidden text shown", "none", increase("gateway_hidden_text_shown_total"),
            "Must be 0. A closing tag came after text had been shown: what was shown may have been "
            "thought. The log event hidden_text_shown names request and worker: take the worker "
            "out and check its parser.",
            red=0.5, over_range=True, width=6, decimals=0,
        ),
        stat(
            "Texts left unmasked in the log", "none",
            increase("gateway_audit_redaction_failed_total"),
            "Texts that were not stored because they could not be searched for what to mask. "
            "Should be 0: is the profile of GATEWAY_AUDIT_REDACTION still there?",
            red=0.5, over_range=True, width=6, decimals=0,
        ),
        stat(
            "Audit records set aside or out of place", "none", " + ".join(lost),
            "Must be 0. Set aside: PostgreSQL refused a record, which is kept in set-aside.jsonl. "
            "Out of place: an event does not follow the one before it. Run `gateway audit verify`.",
            red=0.5, over_range=True, width=6, decimals=0,
        ),
        stat(
            "Served without a record", "none", increase("gateway_audit_open_metadata_total"),
            "Requests of tenants that may go on while nothing can be recorded. Should be 0: the "
            "spool's disk is full or fails.",
            red=0.5, over_range=True, width=6, decimals=0,
        ),
    ]  # fmt: skip


def _kept() -> list[Panel]:
    return [
        stat(
            "Leaks prevented", "short", increase("gateway_think_leak_prevented_total"),
            "Times that hidden text was kept from a client which the worker's own split would have "
            "shown. Any number is a worker's fault that harmed nobody; a rise comes with a new "
            "engine version or template.",
            over_range=True, width=6, decimals=0,
        ),
        stat(
            "Matches of the filter", "short", or_none(increase(HITS)),
            "What the rules found, in prompts and answers, whatever was done about it.",
            over_range=True, width=6, decimals=0,
        ),
        stat(
            "Tool calls refused", "short", increase("gateway_tool_calls_refused_total"),
            "Calls of the model that were kept from clients, below by reason.",
            over_range=True, width=6, decimals=0,
        ),
        stat(
            "Unknown callers", "short", increase("gateway_authentication_failures_total"),
            "Requests of nobody we know. Thousands from few networks are a search for keys: they "
            "are throttled; block them at the edge.",
            over_range=True, width=6, decimals=0,
        ),
    ]  # fmt: skip


def _thoughts() -> Row:
    return Row("Thoughts", [
        lines(
            "Leaks prevented, by place", "ops",
            "Where hidden text stood. before_thought and markup: a worker without its reasoning "
            "parser, or with a wrong one. in_answer, in_arguments: the model's own doing.",
            Query(rate("gateway_think_leak_prevented_total", by="where"), "{{where}}"),
        ),
        lines(
            "Disagreements with the workers' parsers", "ops",
            "Answers that we split otherwise than the engine's parser. A step up after an engine's "
            "update: compare its release notes before the update goes on.",
            Query(rate("gateway_parser_disagreement_total", by="engine"), "{{engine}}"),
        ),
        lines(
            "Hidden text shown over time", "ops",
            "Must stay at 0.",
            Query(rate("gateway_hidden_text_shown_total"), "shown"),
        ),
        lines(
            "Checks of workers", "ops",
            "Whether a worker splits the thought off as its settings say, asked before its first "
            "request. failed: it stays out of the pool, and the log says what to change.",
            Query(rate("gateway_worker_check_total", by="outcome"), "{{outcome}}"),
        ),
        lines(
            "Sealed thoughts", "ops",
            "malformed or foreign: a client changes seals, or sends another tenant's. unknown_key: "
            "the sealing key was replaced without the old one behind it. expired: loops longer "
            "than GATEWAY_SEALED_REASONING_SECONDS.",
            Query(rate("gateway_sealed_reasoning_total", by="event"), "{{event}}"),
        ),
        lines(
            "Answers that we ended", "ops",
            "Before the worker did. Loops: the model is sampled cold, or its quantisation is too "
            "coarse. thinking_quota: a key's or request's quota is short. filtered: a rule that "
            "blocks.",
            Query(rate("gateway_answers_stopped_total", by="reason"), "{{reason}}"),
        ),
    ])  # fmt: skip


def _filter() -> Row:
    return Row("Filter and domains", [
        lines(
            "Matches by action", "ops",
            "mask and block change an answer, refuse a request; flag only counts. A sudden rise of "
            "one action: a rule was changed, or one client sends a lot of such text.",
            Query(rate(HITS, by="action"), "{{action}}"),
            stacked=True,
        ),
        lines(
            "Matches by place", "ops",
            "In prompts, answers, visible thoughts, arguments of calls. Secrets in answers that "
            "stand in no prompt deserve a look into the audit log.",
            Query(rate(HITS, by="surface"), "{{surface}}"),
            stacked=True,
        ),
        bars(
            "Rules with most matches", "short",
            Query(f"topk({TOP_RULES}, {increase(HITS, by='rule, action')})", "{{rule}} {{action}}"),
            "In the time shown. A rule of your own far in front is often too wide: `gateway rules "
            "test` shows what it finds.",
        ),
        lines(
            "High-risk domains", "ops",
            "Prompts by domain and by what was done. By weighted terms, and no better than "
            "docs/domains.md says.",
            Query(
                rate("gateway_prompt_domains_total", by="domain, action"),
                "{{domain}} {{action}}",
            ),
            width=16,
        ),
        lines(
            "Rules read again", "ops",
            "refused: the changed file has a bad rule, and the old rules are still in use. "
            "`gateway rules test FILE` names it.",
            Query(rate("gateway_rules_reloads_total", by="outcome"), "{{outcome}}"),
        ),
    ])  # fmt: skip


def _tools() -> Row:
    return Row("Tools and what was asked", [
        lines(
            "Tool calls refused, by reason", "ops",
            "not_offered, not_allowed: the model tried a tool that it may not use, perhaps at the "
            "word of a page that it read. not_json, schema: it failed, and is asked once more.",
            Query(rate("gateway_tool_calls_refused_total", by="reason"), "{{reason}}"),
        ),
        lines(
            "Requests refused for a tool", "ops",
            "403: the key's policy does not allow a tool that the request offers.",
            Query(rate("gateway_tools_refused_total"), "refused"),
        ),
        lines(
            "Requests adjusted", "ops",
            "A temperature at which the model loops was raised, or max_tokens cut to what the key "
            "or the context allows. The client is told in x-gateway-adjusted.",
            Query(rate("gateway_requests_adjusted_total", by="field"), "{{field}}"),
        ),
    ])  # fmt: skip


def _callers() -> Row:
    return Row("Callers", [
        lines(
            "Failed authentications", "reqps",
            "unknown: a revoked key still in use, or a search. throttled: not looked at, after too "
            "many from one network. Behind a proxy that is not in GATEWAY_TRUSTED_PROXIES all "
            "clients share one address.",
            Query(rate("gateway_authentication_failures_total", by="reason"), "{{reason}}"),
        ),
        lines(
            "Refused by a limit", "reqps",
            "429, by the limit. `gateway keys show` tells what a key has spent.",
            Query(rate("gateway_rate_limited_total", by="scope"), "{{scope}}"),
        ),
        lines(
            "Refused at the edge", "reqps",
            "Before they were read: no valid HTTP, headers that are too slow or too large, too "
            "many connections. Many: a broken proxy in front, or an attack.",
            Query(rate("gateway_edge_refusals_total", by="code"), "{{code}}"),
        ),
    ])  # fmt: skip


def _audit() -> Row:
    return Row("Does the audit log hold?", [
        lines(
            "What must not happen", "ops",
            "Records that the spool or PostgreSQL refused, breaks in a chain, requests served "
            "without a record. Each has a log line with the reason.",
            Query(rate("gateway_audit_records_refused_total"), "refused by the spool"),
            Query(rate("gateway_audit_records_set_aside_total"), "set aside"),
            Query(rate("gateway_audit_chain_breaks_total"), "chain breaks"),
            Query(rate("gateway_audit_open_metadata_total"), "served without a record"),
        ),
        lines(
            "Signed checkpoints", "ops",
            "By the place that has them, and tries that failed. What no checkpoint covers can be "
            "changed unseen: one is due every GATEWAY_AUDIT_CHECKPOINT_SECONDS.",
            Query(rate("gateway_audit_checkpoints_total", by="place"), "{{place}}"),
            Query(
                rate("gateway_audit_checkpoint_failures_total", by="place"),
                "failed: {{place}}",
            ),
        ),
        lines(
            "Age of the second place", "s",
            "Since it last had every checkpoint. It grows while the second place "
            "(GATEWAY_AUDIT_CHECKPOINTS) cannot be written; they wait in memory.",
            Query(most("gateway_audit_checkpoint_age_seconds", by="instance"), "{{instance}}"),
        ),
    ])  # fmt: skip


SAFETY = Board(
    "safety",
    "Qwythos Gateway / Safety",
    "What was kept from clients, what was refused, and whether the audit log holds.",
    [_now(), _thoughts(), _filter(), _tools(), _callers(), _audit()],
)
