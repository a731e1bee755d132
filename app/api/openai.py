"""OpenAI's routes: what they are, for FastAPI's document, and what serves them."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.call import bearer, caller_of
from app.api.completions import Completions
from app.api.rate_limit_headers import rate_limit_headers
from app.api.request_headers import trace_headers
from app.api.surface import CHAT, TEXT
from app.api.wire import ChatCompletionRequest, CompletionRequest
from app.errors import NotFound
from app.gateway.pipeline import Gateway, consult
from app.gateway.prepare import visible_models
from app.gateway.types import Principal
from app.limits.subjects import Standing

OWNER = "empero-ai"
# The model's release, 19 June 2026: OpenAI's clients want a creation time.
MODEL_CREATED = 1_781_827_200

_bearer = HTTPBearer(auto_error=False, description="An API key: `sk-qw-...`")


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    error: Error


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = MODEL_CREATED
    owned_by: str = OWNER


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse}
    for status in (400, 401, 403, 404, 409, 413, 415, 429, 502, 503, 504)
}


COMPLETIONS = {surface.route: Completions(surface) for surface in (CHAT, TEXT)}


class HotRoutes:
    """The data path, past the framework's own layers: they would cost more than all the rest,
    once for each event. Everything else takes the usual way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = COMPLETIONS.get(scope["path"]) if scope["type"] == "http" else None
        if hot is not None and scope["method"] == "POST":
            await hot(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def create_chat_completion(request: ChatCompletionRequest) -> None:
    """Create a chat completion. The model's thought is never part of the answer's text.

    **The thought.** An operator says for each key what its clients get of it: nothing, the text (in
    `reasoning`), or a seal: `reasoning_details` with one entry of type `reasoning.encrypted`. Sent
    back with its message in a tool loop, the thought goes on where it ended; those of turns before
    the last user message are not used. `reasoning_effort` bounds the thought where the gateway's
    settings give the effort a number of tokens.

    **Tools** are functions. `tool_choice` may be `none`, `auto`, `required`, one function, or
    `allowed_tools`: the model is told only of those. A call reaches the client if it names a tool
    that may be called now and its arguments are JSON that fits the tool's schema; with
    `parallel_tool_calls: false` at most one does. A key may be bound to certain tools: any other in
    `tools` is refused (403, `tool_not_allowed`).

    **Sampling.** `top_k`, `min_p` and `repetition_penalty` are taken beside OpenAI's fields, unless
    the key may not set them (403, `parameter_not_allowed`). At a `temperature` of 0.3 and below the
    model repeats itself without end: unless the key is exempt it is raised, or refused. What was
    changed of a request, the header `x-gateway-adjusted` says. `stop` is applied to visible text;
    `max_completion_tokens` wins over `max_tokens`, and counts the thought. Several choices (`n`)
    are bounded by a setting.

    **Filtering.** Answers, visible thoughts and the arguments of calls pass the rules of the key's
    profile: what they mask is replaced (`[email]`), what they block ends the choice before it, with
    `finish_reason: "content_filter"`. A prompt may be masked, too, or refused (400,
    `content_filter`). Where the profile annotates high-risk domains, the header `x-gateway-domains`
    names those that the prompt is of; with `gateway: {"annotate": true}` the body does as well, and
    of a stream the last chunk with a choice: `gateway: {"domains": ["medical"]}`. A key may be kept
    from a domain (403, `domain_not_allowed`).

    **Cold prefills.** With the header `x-gateway-max-cold-prefill-tokens: N`, or where the key is
    bound so, a prompt of which a worker would have to read more than N tokens, because it has them
    not in its cache, is refused before it is read (409, `cold_prefill_too_long`, with the estimate
    in `x-gateway-cold-prefill-tokens`).

    **Conversations.** Turns of one conversation are asked of the worker that has it in its cache. A
    client may say which it is: by the header `x-gateway-affinity`, by `prompt_cache_key`, or by the
    session headers that agents send; otherwise its beginning tells. A line
    `x-anthropic-billing-header: ...` in a system text, which is another in each request, is left
    out.

    **The same request again**: one that is being answered already, for the same key, is not asked a
    second time, if it has the same `Idempotency-Key` or its SDK counts it as a retry; the answer is
    then that of the running one (`x-gateway-attached-to`). A key that is in use for another body is
    refused (409, `idempotency_key_in_use`).

    **Waiting.** With `x-gateway-progress: true` the comments that keep a stream alive carry the
    place in the queue, the prompt's tokens and the seconds left. An answer that is not streamed
    comes within `x-stainless-read-timeout`, or as a 504 (`gateway_timeout`).

    **Accepted without effect**: `metadata`, `prompt_cache_options`, `prompt_cache_retention`,
    `safety_identifier`, `user`, `verbosity`; `strict` of functions and schemas;
    `stream_options.include_obfuscation`; `name`, `annotations` and `prompt_cache_breakpoint` in
    messages.

    **Refused by name** (400, `unsupported_parameter`), but for null or what asks for nothing:
    `audio`, `function_call`, `functions`, `logit_bias`, `logprobs`, `modalities`, `moderation`,
    `prediction`, `service_tier`, `store`, `top_logprobs`, `web_search_options`; content that is not
    text; custom tools; messages of role `function`.
    """


async def create_completion(request: CompletionRequest) -> None:
    """Create a completion: the prompt is asked as one user turn, and the thought kept back, also
    from keys that may see it elsewhere.

    Accepted without effect: `user`. Refused by name, but for null or what asks for nothing:
    `best_of`, `echo`, `logit_bias`, `logprobs`, `suffix`.
    """


def add_openai_routes(app: FastAPI) -> None:
    for surface, described in ((CHAT, create_chat_completion), (TEXT, create_completion)):
        app.add_api_route(
            surface.route,
            described,
            methods=["POST"],
            dependencies=[Security(_bearer)],
            responses={
                **ERRORS,
                200: {
                    "description": "The completion, or its chunks where `stream` is true.",
                    "content": {"application/json": {}, "text/event-stream": {}},
                },
            },
            tags=["OpenAI"],
        )
        # Described like any other route, and served by the raw endpoint, as in `HotRoutes`.
        app.router.routes[-1].app = COMPLETIONS[surface.route]  # type: ignore[attr-defined]  # a route has it
    app.include_router(models)


models = APIRouter(tags=["OpenAI"], dependencies=[Security(_bearer)])


async def _consult_models(request: Request, response: Response) -> tuple[str, ...]:
    """The names that the key may use; of them `model` alone, where the path names one."""

    def tell(standing: Standing) -> None:
        request.state.standing = standing  # for the error handler
        response.raw_headers.extend(rate_limit_headers(standing))

    gateway: Gateway = request.app.state.gateway
    headers: Headers = request.headers
    return await consult(
        caller_of(request.scope, headers, gateway.clock(), route="/v1/models"),
        lambda: trace_headers(headers),
        lambda: bearer(headers),
        gateway,
        partial(_visible, request.path_params.get("model")),
        tell,
    )


def _visible(model: str | None, principal: Principal) -> tuple[str, ...]:
    names = visible_models(principal)
    if model is None:
        return names
    if model not in names:
        raise NotFound(
            f"The model '{model[:64]}' does not exist or you do not have access to it.",
            param="model",
            code="model_not_found",
        )
    return (model,)


Names = Annotated[tuple[str, ...], Security(_consult_models)]


@models.get("/v1/models", responses={401: ERRORS[401]})
async def list_models(names: Names) -> ModelList:
    """The names that this key may use."""
    return ModelList(data=[Model(id=name) for name in names])


@models.get("/v1/models/{model:path}", responses={401: ERRORS[401], 404: ERRORS[404]})
async def retrieve_model(model: str, names: Names) -> Model:
    """One of them; the id may hold slashes."""
    return Model(id=names[0])
