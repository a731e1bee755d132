"""`/admin/v1`: what `gateway keys`, `plans`, `tenants` and `audit` do, over HTTP, and the worker
pool, for whoever holds GATEWAY_ADMIN_TOKEN."""

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer

from app.api.admin_audit import add_audit_routes
from app.api.admin_guard import guarded_route
from app.api.admin_keys import add_key_routes
from app.api.admin_parameters import known_parameters_only
from app.api.admin_plans import add_plan_routes
from app.api.admin_tenants import add_tenant_routes
from app.api.admin_workers import add_worker_routes
from app.api.flood_guard import FloodGuarded, build_flood_guard
from app.settings import Settings

PREFIX = "/admin/v1"
REQUESTS_PER_MINUTE = 60  # from one address: a person and a deployment, not a search for the token


def add_admin_routes(app: FastAPI, settings: Settings) -> None:
    """The routes, or none at all where no GATEWAY_ADMIN_TOKEN is set. The flood guard before them
    counts whatever is asked for below them, a route or none.

    The application's state holds `gateway`, whose `keys` is the KeyStore, `engine` and
    `membership`.
    """
    if settings.admin_token is None:
        return
    router = APIRouter(
        prefix=PREFIX,
        tags=["admin"],
        route_class=guarded_route(settings.admin_token),
        dependencies=[
            # For the OpenAPI document alone: the guard has seen the token when this runs.
            Depends(HTTPBearer(scheme_name="Admin token", auto_error=False)),
            Depends(known_parameters_only),
        ],
    )
    add_key_routes(router)
    add_plan_routes(router)
    add_tenant_routes(router)
    add_audit_routes(router)
    add_worker_routes(router)
    app.include_router(router)
    guard = build_flood_guard("admin API", REQUESTS_PER_MINUTE)
    app.add_middleware(FloodGuarded, prefix=PREFIX, guard=guard)
