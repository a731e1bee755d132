"""Every refusal in OpenAI's shape, whoever made it: no `{"detail"}` leaves this gateway."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from app.api.rate_limit_headers import rate_limit_headers
from app.api.validation import explain_one
from app.errors import GatewayError, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from app.limits.subjects import Standing


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _defect)


def error_response(error: GatewayError) -> Response:
    response = JSONResponse(error.body(), status_code=error.status)
    response.raw_headers += error.headers()
    return response


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 - narrows what the framework passes
    response = error_response(error)
    standing: Standing | None = getattr(request.state, "standing", None)
    if standing is not None:
        response.raw_headers += rate_limit_headers(standing)
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an unknown path, another method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows, as above
    where = f"{request.method} {request.url.path[:64]}"
    if error.status_code == 405:
        response = error_response(MethodNotAllowed(f"Method not allowed: {where}."))
    elif error.status_code == 404:
        response = error_response(
            NotFound(f"Unknown request URL: {where}. See /openapi.json for what there is.")
        )
    else:
        body = InvalidRequest(str(error.detail)).body()
        response = JSONResponse(body, status_code=error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows, as above
    first = error.errors()[0]
    where = first["loc"][1:]  # without "body" or "query"
    if first["type"] == "json_invalid":
        return error_response(
            InvalidRequest("We could not parse the JSON body of your request.", code="invalid_json")
        )
    return error_response(explain_one(where, first["type"], first["msg"]))


async def _defect(request: Request, error: Exception) -> Response:
    return error_response(InternalError("The gateway failed; it has been logged."))
