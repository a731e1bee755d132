"""`/admin/v1/workers`: the worker pool of this replica.

Each replica has a pool of its own. What is changed here is changed in the replica that answers, and
is gone with its process: the file and DNS are for what all replicas shall do.
"""

from enum import StrEnum
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from app.errors import Conflict
from app.gateway.pipeline import Gateway
from app.settings.worker import Engine, Separation, WorkerSettings
from app.upstream.endpoint import Endpoint
from app.upstream.membership.changes import Member, Membership, Source

WORKERS = "/workers"
ONE_WORKER = "/workers/{name:path}"  # a worker's URL may have a path


class WorkerState(StrEnum):
    """The first of these that is true."""

    LEAVING = "leaving"  # drained, and removed with its last request
    DRAINING = "draining"  # it gets nothing new
    NOT_READY = "not_ready"  # not found, or not fit for requests
    EJECTED = "ejected"  # it failed, and is left alone for a while or on trial
    READY = "ready"


class WorkerView(BaseModel):
    """Without its key, and without what else is sent to it."""

    object: Literal["worker"] = "worker"
    name: str
    state: WorkerState
    source: Source
    engine: Engine
    separation: Separation
    tags: list[str]
    max_concurrency: int | None
    model: str | None  # what the worker calls it
    context_tokens: int
    requests: int  # of this replica, with it now
    prefill_tokens: int  # of them, those that it has not read yet
    capacity_tokens: int | None  # of its KV cache, as it says


class WorkersView(BaseModel):
    object: Literal["list"] = "list"
    data: list[WorkerView]


async def _membership(request: Request) -> Membership:
    return cast(Membership, request.app.state.membership)


async def _changeable(request: Request) -> Membership:
    """Of several processes behind one port, one would be changed by chance."""
    gateway: Gateway = request.app.state.gateway
    if gateway.metrics.several_processes:
        raise Conflict(
            "This gateway runs in several processes, each with a pool of its own, of which this "
            "request reaches one. Change GATEWAY_WORKERS_FILE instead.",
            code="several_processes",
        )
    return await _membership(request)


Pool = Annotated[Membership, Depends(_membership)]
ChangeablePool = Annotated[Membership, Depends(_changeable)]


def add_worker_routes(router: APIRouter) -> None:
    router.get(WORKERS)(list_workers)
    router.post(WORKERS, status_code=201)(add_worker)
    router.post(ONE_WORKER + "/drain")(drain_worker)
    router.post(ONE_WORKER + "/resume")(resume_worker)
    router.get(ONE_WORKER)(get_worker)
    router.delete(ONE_WORKER)(remove_worker)


async def list_workers(pool: Pool) -> WorkersView:
    """The pool of the replica that answers; other replicas have their own."""
    return WorkersView(data=[worker_view(member) for member in pool])


async def get_worker(name: str, pool: Pool) -> WorkerView:
    """As this replica sees it. Not found where it is leaving."""
    return worker_view(pool.member(name))


async def add_worker(worker: WorkerSettings, pool: ChangeablePool) -> WorkerView:
    """Add it to the pool of this replica alone, until it is removed or the process ends. It gets
    requests once it was found ready."""
    return worker_view(pool.add(worker))


async def drain_worker(name: str, pool: ChangeablePool) -> WorkerView:
    """Give it nothing new in this replica, until it is resumed or has left the pool. What runs
    there goes on."""
    return worker_view(pool.drain(name))


async def resume_worker(name: str, pool: ChangeablePool) -> WorkerView:
    """Give it requests again, in this replica."""
    return worker_view(pool.resume(name))


async def remove_worker(name: str, pool: ChangeablePool) -> WorkerView:
    """Drain it in this replica, and remove it with its last request. Refused where the file or DNS
    names it; one of GATEWAY_WORKERS is back when the process starts again."""
    return worker_view(pool.remove(name))


def worker_view(member: Member) -> WorkerView:
    endpoint = member.endpoint
    settings = endpoint.settings
    return WorkerView(
        name=endpoint.name,
        state=_state(member, endpoint),
        source=member.source,
        engine=settings.engine,
        separation=settings.separation,
        tags=sorted(settings.tags),
        max_concurrency=settings.max_concurrency,
        model=endpoint.model,
        context_tokens=endpoint.context_tokens,
        requests=endpoint.in_flight,
        prefill_tokens=endpoint.load.prefill_tokens,
        capacity_tokens=endpoint.load.capacity_tokens,
    )


def _state(member: Member, endpoint: Endpoint) -> WorkerState:
    if member.leaving:
        return WorkerState.LEAVING
    if member.held:
        return WorkerState.DRAINING
    if not endpoint.ready:
        return WorkerState.NOT_READY
    if endpoint.ejected_until is not None:
        return WorkerState.EJECTED
    return WorkerState.READY
