"""What the prompt holds: masked, refused or noted as the key's profile says, before a worker or a
limit sees it. Nothing is ever fetched for it: what is not text was refused when it was parsed."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from app.errors import Forbidden, GatewayError, InternalError, InvalidRequest
from app.gateway.types import MAX_LISTED_HITS, Principal, PromptHit, Screened
from app.protocol.domains import Domain, Lexicon, Verdict
from app.protocol.filters.filter_rules import FilterRules
from app.protocol.filters.json_filter import Blocked, JsonFilter
from app.protocol.filters.rule import Action, Hit
from app.protocol.request import SYSTEM_JOINT, ChatRequest, Json, SentThought
from app.rules.rulebook import Profile, Rulebook, UnknownProfile
from app.store.policy import DomainAction, Policy

# Up to here, looking takes a millisecond, of hostile text five: a thread would cost as much.
MAX_INLINE_BYTES = 4 * 1024
# What is no text in a message: words of the protocol, and names that have to agree.
STRUCTURAL = frozenset({"role", "tool_call_id", "name"})

log = structlog.get_logger()


async def screen(
    request: ChatRequest,
    principal: Principal,
    rulebook: Rulebook,
    lexicon: Lexicon,
    default_profile: str,
) -> Screened:
    """Raises InvalidRequest (`array_above_max_length`, `string_above_max_length`) for a prompt that
    is larger than the key's may be, and InternalError (`filter_profile_missing`) where the key's
    profile is none: then nobody knows what may pass. The event loop is not held, however long the
    prompt is."""
    _refuse_oversize(request, principal.policy)
    name = principal.policy.filter_profile or default_profile
    try:
        profile = rulebook.profile(name)
    except UnknownProfile:
        log.error("filter_profile_missing", profile=name, key_id=principal.key_id)
        raise InternalError(
            "The gateway has no filter profile of the name that this API key's policy gives.",
            code="filter_profile_missing",
            should_retry=False,
        ) from None
    if not profile.prepared:  # once for each: the first request under it waits a second or two
        await asyncio.to_thread(profile.prepare)
    actions = _domain_actions(principal, profile)
    if not (profile.input or actions):
        return Screened(request, profile)
    if request.body_bytes <= MAX_INLINE_BYTES:
        return _screen(request, profile, actions, lexicon)
    return await asyncio.to_thread(_screen, request, profile, actions, lexicon)


def _refuse_oversize(request: ChatRequest, policy: Policy) -> None:
    """Beside the settings' limits, which are those of every key."""
    most = policy.max_messages
    if most is not None and len(request.sent_as) > most:
        raise InvalidRequest(
            f"Invalid value for 'messages': this API key may send at most {most} at a time.",
            param="messages",
            code="array_above_max_length",
        )
    longest = policy.max_prompt_characters
    if longest is None or request.body_bytes <= longest:
        return
    prompt = (request.messages, request.tools, request.response_format)
    if sum(map(len, _strings(prompt))) > longest:
        raise InvalidRequest(
            f"This API key may send prompts of at most {longest} characters.",
            param="messages" if request.chat else "prompt",
            code="string_above_max_length",
        )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _domain_actions(principal: Principal, profile: Profile) -> dict[Domain, DomainAction]:
    actions = {**profile.domains, **(principal.policy.domains or {})}
    return {domain: action for domain, action in actions.items() if action != "allow"}


def _screen(
    request: ChatRequest,
    profile: Profile,
    actions: Mapping[Domain, DomainAction],
    lexicon: Lexicon,
) -> Screened:
    found: dict[Domain, Verdict] = {}
    if actions:
        verdicts = lexicon.classify(_questions(request))
        found = {domain: verdicts[domain] for domain in actions if domain in verdicts}
    screened = Screened(
        request,
        profile,
        domains=found,
        domain_actions={} if profile.dry_run else {domain: actions[domain] for domain in found},
    )
    if profile.input:
        screened = _filtered(screened, profile.input)
    refused = [d for d, action in screened.domain_actions.items() if action == "refuse"]
    if refused and screened.refusal is None:
        refusal = Forbidden(
            f"This API key may not ask questions of {_listed(refused)}.",
            param="messages" if request.chat else "prompt",
            code="domain_not_allowed",
        )
        return replace(screened, refusal=refusal)
    return screened


def _questions(request: ChatRequest) -> Iterator[str]:
    """What a person asked; not what the product around it says, nor what tools brought."""
    for message in request.messages:
        if message["role"] == "user" and isinstance(message.get("content"), str):
            yield message["content"]


def _filtered(screened: Screened, rules: FilterRules) -> Screened:
    request = screened.request
    texts = JsonFilter(rules)
    where = ""
    refusal: GatewayError | None = None
    try:
        messages: list[Json] = []
        for index, message in enumerate(request.messages):
            where = request.param_of(index)
            if index == 0 and request.system_parts:
                parts: list[str] = []
                for sent_as, text in request.system_parts:
                    where = f"messages[{sent_as}]"
                    parts.append(texts.value(text, where))
                messages.append({**message, "content": SYSTEM_JOINT.join(parts)})
                continue
            messages.append(_message(message, where, texts))
        thoughts: list[SentThought] = []
        for thought in request.thoughts:
            where = f"messages[{thought.sent_as}].reasoning"
            thoughts.append(replace(thought, text=texts.value(thought.text, where)))
        tools: list[Json] = []
        for index, tool in enumerate(request.tools):
            where = f"tools[{index}]"
            tools.append(_tool(tool, where, texts))
        where = "response_format"
        response_format = texts.value(request.response_format, where)
    except Blocked as blocked:
        refusal = _refusal(where, blocked.hit)
    counts = Counter((hit.rule, hit.action) for _, hit in texts.hits)
    if refusal is None and any(action is Action.MASK for _, action in counts):
        request = replace(
            request,
            messages=tuple(messages),
            thoughts=tuple(thoughts),
            tools=tuple(tools),
            response_format=response_format,
        )
    hits = tuple(PromptHit(at, hit) for at, hit in texts.hits[:MAX_LISTED_HITS])
    return replace(screened, request=request, hits=hits, counts=counts, refusal=refusal)


def _message(message: Json, where: str, texts: JsonFilter) -> Json:
    shown: Json = {
        name: value if name in STRUCTURAL else texts.value(value, where)
        for name, value in message.items()
        if name != "tool_calls"
    }
    if "tool_calls" in message:
        shown["tool_calls"] = [_call(call, where, texts) for call in message["tool_calls"]]
    return shown


def _tool(tool: Json, where: str, texts: JsonFilter) -> Json:
    function: Json = tool["function"]
    shown = texts.value({k: v for k, v in function.items() if k != "name"}, where)
    return {**tool, "function": {"name": function["name"], **shown}}


def _call(call: Json, where: str, texts: JsonFilter) -> Json:
    function = call["function"]
    arguments = texts.text(function["arguments"], where)
    return {**call, "function": {**function, "arguments": arguments}}


def _refusal(where: str, hit: Hit) -> InvalidRequest:
    return InvalidRequest(
        f"'{where}' holds something that this API key may not send (rule '{hit.rule}').",
        param=where,
        code="content_filter",
    )


def _listed(domains: Sequence[Domain]) -> str:
    names = ", ".join(f"'{domain}'" for domain in domains)
    return f"the domain{'s' if len(domains) > 1 else ''} {names}"
