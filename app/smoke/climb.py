"""One rung: a document of so many tokens, read once and once more, and if need be a third time.

vLLM 0.32 keeps the recurrent state of this architecture by rules of its own: of 14 prompts of 9,000
to 19,000 tokens the second request found nothing cached 10 times, the third always.
"""

from app.smoke.answer import Answer
from app.smoke.document import QUESTION, Document, make_document
from app.smoke.failures import EMPTY_ANSWER, AskFailed
from app.smoke.first_steps import SPLIT_ADVICE, rounded
from app.smoke.result import Result, Status, failed, warned
from app.smoke.rungs import Rung
from app.smoke.visit import Visit

# Of what was asked. The text before it told how many characters a token has.
MAX_COUNT_ERROR = 0.15
# A prefix that was in the cache is read in no time; what is slower was read again.
CACHED_SPEEDUP = 2.0

COUNT_ADVICE = "does something on the way cut prompts, or add to them?"
REPORT_ADVICE = (
    "the repetition was quick: the cache works and is not reported (vLLM: "
    "--enable-prompt-tokens-details; SGLang: --enable-cache-report)"
)
CACHE_ADVICE = (
    "is prefix caching off (vLLM: --no-enable-prefix-caching), is the cache too small for this "
    "prompt, or did another worker get the repetition?"
)
NEEDLE_ADVICE = "a model too small for it does not find it; Qwythos should"


async def climb(rung: Rung, visit: Visit) -> Result:
    """Raises AskFailed."""
    try:
        return await _climb(rung, visit)
    except AskFailed as failure:
        if failure.code != EMPTY_ANSWER:
            raise
        return warned(rung.name, failure.words, NEEDLE_ADVICE)


async def _climb(rung: Rung, visit: Visit) -> Result:
    assert rung.prompt_tokens is not None, "a skipped rung is not climbed"  # noqa: S101 - its caller's order
    characters = visit.characters_of(rung.prompt_tokens)
    document = make_document(f"{visit.options.seed}:{rung.name}", characters - len(QUESTION))
    content = f"{document.text}\n\n{QUESTION}"
    first = await visit.ask(rung.name, content, prompt_tokens=rung.prompt_tokens, timed=True)
    broken = _broken(first, rung, visit)
    if broken is not None:
        return broken
    visit.last_read = rung.prompt_tokens, first.first_seconds
    if first.usage is not None:
        visit.learn(len(content), first.usage.prompt_tokens)
    again = await visit.ask(rung.name, content, prompt_tokens=rung.prompt_tokens)
    if visit.caches and not _cached_tokens(again):
        again = await visit.ask(rung.name, content, prompt_tokens=rung.prompt_tokens)
        visit.caches = _cached_tokens(again) > 0
    return _judged(rung, document, first, again)


def _broken(answer: Answer, rung: Rung, visit: Visit) -> Result | None:
    asked = rung.prompt_tokens
    figures: dict[str, int | None] = {"asked_tokens": asked}
    if visit.deployment.gateway and answer.tagged:
        detail = "markup of a thought or a call is in the answer"
        return failed(rung.name, detail, SPLIT_ADVICE, figures)
    if answer.usage is None or asked is None:
        return None
    counted = answer.usage.prompt_tokens
    if abs(counted - asked) <= MAX_COUNT_ERROR * asked:
        return None
    detail = f"{counted:,} tokens were counted of a prompt of about {asked:,}"
    return failed(rung.name, detail, COUNT_ADVICE, figures | {"prompt_tokens": counted})


def _judged(rung: Rung, document: Document, first: Answer, again: Answer) -> Result:
    found = document.found_in(first.text)
    cached = _cached_tokens(again)
    warnings = []
    if not found:
        ended = "" if first.finish == "stop" else f" (finish_reason {first.finish})"
        warnings.append((f"the words were not found{ended}", NEEDLE_ADVICE))
    if first.usage is None:
        warnings.append(("no usage is reported", "which server is it? Limits count on it"))
    if not cached:
        quick = first.first_seconds > CACHED_SPEEDUP * again.first_seconds
        warnings.append(("no cached tokens", REPORT_ADVICE if quick else CACHE_ADVICE))
    return Result(
        rung.name,
        Status.WARNING if warnings else Status.OK,
        "; ".join([*_words(first, again), *(words for words, _ in warnings)]),
        "; ".join(advice for _, advice in warnings) or None,
        {
            "asked_tokens": rung.prompt_tokens,
            "prompt_tokens": first.usage.prompt_tokens if first.usage else None,
            "first_token_seconds": round(first.first_seconds, 3),
            "tokens_per_second": rounded(first.tokens_per_second),
            "needle_found": found,
            "needle_depth": round(document.depth, 2),
            "cached_tokens": cached,
            "cached_first_token_seconds": round(again.first_seconds, 3),
        },
    )


def _cached_tokens(answer: Answer) -> int:
    return answer.usage.cached_tokens if answer.usage else 0


def _words(first: Answer, again: Answer) -> list[str]:
    read = "tokens not counted" if first.usage is None else f"{first.usage.prompt_tokens:,} tokens"
    if before := _cached_tokens(first):  # the walk of another day, with the same seed
        read += f" ({before:,} cached before)"
    rate = first.tokens_per_second
    speed = "" if rate is None else f", then {rate:.0f} tokens/s"
    cached = _cached_tokens(again)
    known = f"{cached:,} tokens cached, " if cached else ""
    return [
        f"{read}, first token after {first.first_seconds:.1f} s{speed}",
        f"again: {known}first token after {again.first_seconds:.1f} s",
    ]
