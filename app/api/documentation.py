"""`/docs` and `/openapi.json`: FastAPI's own, behind a flood guard."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse

from app.api.flood_guard import build_flood_guard

REQUESTS_PER_MINUTE = 60  # from one address: a person who reads, and a generator of clients
OPENAPI_PATH = "/openapi.json"


def build_documentation_router() -> APIRouter:
    guard = build_flood_guard("documentation", REQUESTS_PER_MINUTE)

    async def counted(request: Request) -> None:
        await guard(request)

    router = APIRouter(include_in_schema=False, dependencies=[Depends(counted)])
    router.get(OPENAPI_PATH)(openapi)
    router.get("/docs")(docs)
    return router


async def _application(request: Request) -> FastAPI:
    app: FastAPI = request.app
    return app


Application = Annotated[Any, Depends(_application)]


async def openapi(app: Application) -> JSONResponse:
    return JSONResponse(app.openapi())


async def docs(app: Application) -> HTMLResponse:
    return get_swagger_ui_html(openapi_url=OPENAPI_PATH, title=app.title)
