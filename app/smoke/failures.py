"""How a request can fail, and what to change then."""

from enum import StrEnum

EMPTY_ANSWER = "empty_answer"  # the gateway's code, once it has asked a second time


class Kind(StrEnum):
    UNREACHABLE = "unreachable"
    REFUSED = "refused"  # by a status
    FAILED = "failed"  # by an error within the stream
    LOST = "lost"  # the connection broke, or the stream ended without its finish_reason
    LATE = "late"  # we gave up waiting
    MALFORMED = "malformed"  # not the stream of a chat completion


class AskFailed(Exception):
    """No answer. `detail` is what the server said, or what happened to it, in one line."""

    def __init__(
        self, kind: Kind, detail: str, *, status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.code = code

    @property
    def words(self) -> str:
        marks = [str(mark) for mark in (self.status, self.code) if mark is not None]
        return f"{self.kind} ({', '.join(marks)}): {self.detail}" if marks else self.detail


CONTEXT = (
    "the prompt is longer than the server's context: raise --max-model-len (vLLM), "
    "--context-length (SGLang) or --ctx-size (llama.cpp), or walk less far with --max-context"
)
BODY_SIZE = (
    "the body is too large: raise GATEWAY_MAX_BODY_BYTES, and the limit of any proxy in front "
    "(nginx: client_max_body_size)"
)
QUEUE = (
    "no worker takes it: is one ready (/readyz)? --max-num-queued-reqs and --max-num-queued-tokens "
    "of vLLM refuse what would wait; see `gateway plan` for both"
)
TIME = (
    "the prompt was not read in time: `gateway plan` says how long it should take; "
    "GATEWAY_FIRST_BYTE_SECONDS and GATEWAY_PREFILL_FLOOR_TOKENS_PER_SECOND are the gateway's "
    "patience, --prefill-floor is ours, and proxies have their own"
)
ENGINE = (
    "the engine failed or died: its own log says why. Where memory ran out, lower "
    "--gpu-memory-utilization, --max-num-seqs or --max-num-batched-tokens; `gateway plan` says "
    "what fits"
)
CONNECTION = (
    "the connection broke: the engine may have died of the prompt (see its log, and `gateway plan` "
    "for what fits), or a proxy cuts connections that are silent, or bodies that are large"
)
KEY = "is the key right? GATEWAY_SMOKE_API_KEY, --api-key-file or --api-key"
POLICY = "the key's policy forbids it: `gateway keys show` and `gateway keys set`"
LIMITS = "the key's limits are used up: `gateway keys set` with --rpm, --tpm or --concurrency"
COLD = "the key may not have so long a prompt read: `gateway keys set --max-cold-prefill-tokens`"
MODEL = "no such model or route there: --model names another one"
TOOL_PARSER = "start vLLM with --enable-auto-tool-choice --tool-call-parser qwen3_coder"
EMPTY = "the model gave no answer, twice: are its chat template and its sampling the model's own?"
DEFECT = "a defect of the gateway's: its log has it, under the request's id"
WIRE = "is this an OpenAI-compatible server? Its answer is no stream of a chat completion"

_CONTEXT_MARKS = ("context_length_exceeded", "context length", "exceed_context_size")
_TOOL_MARKS = ("tool-call-parser", "enable-auto-tool-choice")
_MEMORY_MARKS = ("out of memory", "enginedead", "enginecore")
_BY_KIND = {
    Kind.UNREACHABLE: "is it still running?",
    Kind.LATE: TIME,
    Kind.LOST: CONNECTION,
    Kind.MALFORMED: WIRE,
    Kind.FAILED: ENGINE,
}
_BY_STATUS = {
    401: KEY, 403: POLICY, 404: MODEL, 408: BODY_SIZE, 409: COLD, 413: BODY_SIZE, 429: LIMITS,
    500: ENGINE, 502: ENGINE, 503: QUEUE, 504: TIME,
}  # fmt: skip
# Says more than a status, and stands alone in a stream that had begun.
_BY_CODE = {
    "internal_error": DEFECT,
    EMPTY_ANSWER: EMPTY,
    "server_is_overloaded": QUEUE,
    "upstream_timeout": TIME,
    "rate_limit_exceeded": LIMITS,
    "503": QUEUE,
    "504": TIME,
}


def advice_for(failure: AskFailed) -> str | None:
    """What to change, where that can be told."""
    said = f"{failure.code or ''} {failure.detail}".lower()
    if any(mark in said for mark in _CONTEXT_MARKS):
        return CONTEXT
    if any(mark in said for mark in _TOOL_MARKS):
        return TOOL_PARSER
    if any(mark in said for mark in _MEMORY_MARKS):
        return ENGINE
    by_status = None if failure.status is None else _BY_STATUS.get(failure.status)
    return _BY_CODE.get(failure.code or "") or by_status or _BY_KIND.get(failure.kind)
