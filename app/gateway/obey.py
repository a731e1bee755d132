"""What a key's policy makes of a request: what is refused, what is changed, what its answer has to
keep to."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from app.errors import Forbidden, InvalidRequest
from app.protocol.request import ChatRequest, Json, tool_name
from app.protocol.rules import AnswerRules, CallRules, LoopRules, ToolRule
from app.rules.rulebook import Profile
from app.settings import Settings
from app.store.policy import Policy, Reasoning
from app.telemetry.metrics import Metrics

COLD_TEMPERATURE = 0.3  # at this and below the model loops
MIN_THINKING_TOKENS = 1  # vLLM takes 0, and then thinks aloud in the answer

ENGINE_PARAMETERS = ("top_k", "min_p", "repetition_penalty")  # beside `seed`


def refuse_forbidden(request: ChatRequest, policy: Policy, metrics: Metrics) -> None:
    """Raises Forbidden (`tool_not_allowed`, `parameter_not_allowed`), naming what it was."""
    _refuse_tools(request, policy, metrics)
    allowed = policy.engine_parameters
    if allowed is None:
        return
    given = [name for name in ENGINE_PARAMETERS if name in request.sampling]
    if request.seed is not None:
        given.append("seed")
    for name in given:
        if name not in allowed:
            raise Forbidden(
                f"This API key may not set '{name}'.", param=name, code="parameter_not_allowed"
            )


def _refuse_tools(request: ChatRequest, policy: Policy, metrics: Metrics) -> None:
    """Also those that the request itself keeps from the model: it is the same list every time."""
    if policy.tools is None:
        return
    for index, tool in enumerate(request.tools):
        name = tool_name(tool)
        if not any(fnmatchcase(name, rule.name) for rule in policy.tools):
            metrics.tool_refused()
            raise Forbidden(
                f"This API key may not use the tool '{name}'.",
                param=f"tools[{index}].function.name",
                code="tool_not_allowed",
            )


def adjustments(request: ChatRequest, policy: Policy, settings: Settings) -> dict[str, float]:
    """What has to be changed of what the client set, by field. A field that it left out has no
    adjustment: defaults are ours.

    Raises InvalidRequest for a cold temperature where the policy refuses one.
    """
    adjusted: dict[str, float] = {}
    temperature = request.sampling.get("temperature")
    if temperature is not None and temperature <= COLD_TEMPERATURE:
        cold_sampling = policy.cold_sampling or "raise"
        if cold_sampling == "refuse":
            raise InvalidRequest(
                f"Invalid value for 'temperature': must be above {COLD_TEMPERATURE}. Sampled "
                "colder than that this model repeats itself without end.",
                param="temperature",
            )
        if cold_sampling == "raise":
            adjusted["temperature"] = settings.temperature_floor
    cap = policy.max_output_tokens
    if cap is not None and request.max_tokens is not None and request.max_tokens > cap:
        adjusted["max_tokens"] = cap
    return adjusted


def thinking_tokens(request: ChatRequest, policy: Policy, settings: Settings) -> int | None:
    """The least of the quotas that apply: the key's, the gateway's, that of the effort asked for.
    None: the model may think as long as it likes."""
    by_effort = settings.thinking_tokens_by_effort.get(request.reasoning_effort or "")
    quotas = (policy.max_thinking_tokens, settings.max_thinking_tokens, by_effort)
    given = [quota for quota in quotas if quota is not None]
    return max(MIN_THINKING_TOKENS, min(given)) if given else None


def seals(request: ChatRequest, policy: Policy) -> bool:
    """The older route has no place for a thought, sealed or not."""
    return request.chat and policy.reasoning is Reasoning.SEALED


def call_required(request: ChatRequest) -> bool:
    """Where the client is owed a call, an answer without one is none."""
    return request.tool_choice == "required" or isinstance(request.tool_choice, dict)


def answer_rules(
    request: ChatRequest,
    policy: Policy,
    settings: Settings,
    *,
    tools: Mapping[str, Json | None],
    max_thinking_tokens: int | None,
    profile: Profile,
    call_prefix: str,
) -> AnswerRules:
    """`tools` are the schemas of those that may be called, as the model was shown them."""
    show_second_thought = policy.think_in_answer == "show"
    return AnswerRules(
        n=request.n,
        stop=request.stop,
        call_prefix=call_prefix,
        calls=CallRules(
            offered=tools,
            allowed=_tool_rules(policy),
            single=request.parallel_tool_calls is False,
            thought_in_arguments=show_second_thought,
        ),
        show_thought=request.chat and policy.reasoning is Reasoning.VISIBLE,
        keep_thought=_thought_needed(request, policy),
        show_second_thought=show_second_thought,
        max_thinking_tokens=max_thinking_tokens,
        loops=LoopRules(
            repeats=settings.loop_repeats,
            thought_characters=settings.loop_thought_characters,
            answer_characters=settings.loop_answer_characters,
        ),
        hold_characters=settings.hold_characters,
        filter=profile.output or None,
    )


def _thought_needed(request: ChatRequest, policy: Policy) -> bool:
    """For sealing it, for going on after it, or for the audit log."""
    return (
        seals(request, policy)
        or policy.salvage_tokens is not None
        or policy.audit == "full+reasoning"
    )


def _tool_rules(policy: Policy) -> tuple[ToolRule, ...] | None:
    if policy.tools is None:
        return None
    return tuple(ToolRule(rule.name, rule.arguments) for rule in policy.tools)
