"""`gateway workers`: the pools of running gateways, and the file that they follow."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from app.cli.admin_api import AdminAPI, on_gateways, urls_option
from app.cli.errors import BadUsage, fail
from app.cli.json_option import as_json
from app.cli.table import cell, table
from app.upstream.membership.file import WorkersRefused, parse_workers, read_file

HEAD = ("NAME", "STATE", "SOURCE", "ENGINE", "CONTEXT", "REQUESTS", "PREFILL", "TAGS")


@click.group()
def workers() -> None:
    """Show and change the worker pools of running gateways.

    Each replica has a pool of its own: name all of them with --url, or let them follow one
    GATEWAY_WORKERS_FILE. Asks the admin API, with GATEWAY_ADMIN_TOKEN.
    """


@workers.command("list")
@urls_option
@as_json
def list_workers(*, urls: Sequence[str], as_json: bool) -> None:
    """List the workers that each gateway has."""

    async def step(api: AdminAPI) -> tuple[str, list[dict[str, Any]]]:
        return api.url, (await api.ask("GET", "workers"))["data"]

    for url, found in on_gateways(urls, step):
        if as_json:
            for worker in found:
                click.echo(json.dumps({"gateway": url, **worker}))
            continue
        if len(urls) > 1:
            click.echo(url)
        click.echo(table(HEAD, map(_row, found)))


@workers.command("add")
@click.argument("worker", metavar="WORKER")
@urls_option
def add_worker(worker: str, *, urls: Sequence[str]) -> None:
    """Add WORKER, a URL or JSON as in GATEWAY_WORKERS, until it is removed or the gateway ends.

    One that holds a key is better read from standard input: give - for it.
    """
    body = _worker(sys.stdin.read() if worker == "-" else worker)

    async def step(api: AdminAPI) -> None:
        added = await api.ask("POST", "workers", body=body)
        click.echo(f"added {cell(added['name'])} to {api.url}")

    on_gateways(urls, step)


@workers.command("drain")
@click.argument("name", metavar="NAME")
@urls_option
def drain_worker(name: str, *, urls: Sequence[str]) -> None:
    """Give a worker nothing new. What runs there goes on."""

    async def step(api: AdminAPI) -> None:
        worker = await api.ask("POST", "workers", name, "drain")
        click.echo(f"{cell(name)} gets nothing new from {api.url}; {_running(worker)}")

    on_gateways(urls, step)


@workers.command("resume")
@click.argument("name", metavar="NAME")
@urls_option
def resume_worker(name: str, *, urls: Sequence[str]) -> None:
    """Give a drained worker requests again."""

    async def step(api: AdminAPI) -> None:
        await api.ask("POST", "workers", name, "resume")
        click.echo(f"{cell(name)} gets requests from {api.url} again")

    on_gateways(urls, step)


@workers.command("remove")
@click.argument("name", metavar="NAME")
@urls_option
def remove_worker(name: str, *, urls: Sequence[str]) -> None:
    """Drain a worker, and remove it with its last request.

    One that GATEWAY_WORKERS names is back when the gateway starts again.
    """

    async def step(api: AdminAPI) -> None:
        worker = await api.ask("DELETE", "workers", name)
        click.echo(f"{cell(name)} leaves {api.url}; {_running(worker)}")

    on_gateways(urls, step)


@workers.command("check")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def check_file(path: Path) -> None:
    """Check FILE, as GATEWAY_WORKERS_FILE would name it, and list what it names."""
    try:
        named = parse_workers(read_file(path))
    except WorkersRefused as refused:
        fail(str(refused))
    rows = [
        (name, worker.engine, worker.separation, worker.max_model_len, _tags(worker.tags))
        for name, worker in named.items()
    ]
    click.echo(table(("NAME", "ENGINE", "SEPARATION", "CONTEXT", "TAGS"), rows))


def _worker(text: str) -> dict[str, Any]:
    text = text.strip()
    if not text.startswith("{"):
        return {"url": text}
    try:
        worker: dict[str, Any] = json.loads(text)
    except ValueError:
        raise BadUsage("WORKER: is neither a URL nor JSON") from None
    return worker


def _row(worker: dict[str, Any]) -> tuple[object, ...]:
    return (
        worker["name"],
        worker["state"],
        worker["source"],
        worker["engine"],
        worker["context_tokens"],
        worker["requests"],
        worker["prefill_tokens"],
        _tags(worker["tags"]),
    )


def _tags(tags: Sequence[str] | frozenset[str]) -> str | None:
    return ",".join(sorted(tags)) or None


def _running(worker: dict[str, Any]) -> str:
    count = worker["requests"]
    return "nothing runs there" if not count else f"{count} run there"
