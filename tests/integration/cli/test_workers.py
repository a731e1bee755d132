"""`gateway workers` against running gateways."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.integration.cli.answered import refused
from tests.support.gateway import RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

TOKEN = "an-admin-token"


async def workers(*arguments: str, token: str | None = TOKEN, stdin: str | None = None) -> Result:
    environment = {} if token is None else {"GATEWAY_ADMIN_TOKEN": token}
    return await asyncio.to_thread(
        CliRunner().invoke, main, ["workers", *arguments], env=environment, input=stdin
    )


def lines(result: Result) -> list[str]:
    """A gateway in this process writes its log between them."""
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if not re.match(r"\d{4}-\d\d-", line)]


async def listed(*urls: str) -> list[tuple[str, str, str]]:
    """Gateway, worker and state."""
    result = await workers("list", "--json", *(part for url in urls for part in ("--url", url)))
    found = [json.loads(line) for line in lines(result)]
    return [(each["gateway"], each["name"], each["state"]) for each in found]


@pytest.fixture
async def administered(start_gateway: StartGateway, worker: ScriptedWorker) -> RunningGateway:
    return await start_gateway(worker, admin_token=TOKEN)


async def test_a_worker_is_added_drained_resumed_and_removed(
    administered: RunningGateway, worker: ScriptedWorker
) -> None:
    url, name = administered.url, worker.url.removeprefix("http://")
    result = await workers("add", '{"url": "http://w1:8000", "tags": ["eu"]}', "--url", url)
    assert lines(result) == [f"added w1:8000 to {url}"]
    head, first, second = lines(await workers("list", "--url", url))
    assert head.split() == (
        ["NAME", "STATE", "SOURCE", "ENGINE", "CONTEXT", "REQUESTS", "PREFILL", "TAGS"]
    )
    assert first.split() == [name, "ready", "settings", "vllm", "32768", "0", "0", "-"]
    assert second.split()[:4] == ["w1:8000", "not_ready", "admin", "vllm"]
    assert second.split()[-1] == "eu"
    result = await workers("drain", name, "--url", url)
    assert lines(result) == [f"{name} gets nothing new from {url}; nothing runs there"]
    assert (url, name, "draining") in await listed(url)
    result = await workers("resume", name, "--url", url)
    assert lines(result) == [f"{name} gets requests from {url} again"]
    result = await workers("remove", "w1:8000", "--url", url)
    assert lines(result) == [f"w1:8000 leaves {url}; nothing runs there"]
    assert await listed(url) == [(url, name, "ready")]


async def test_one_command_changes_all_replicas_that_it_is_told_of(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    replicas = [await start_gateway(worker, admin_token=TOKEN) for _ in range(2)]
    urls = [replica.url for replica in replicas]
    options = [part for url in urls for part in ("--url", url + "/")]
    name = worker.url.removeprefix("http://")
    assert len(lines(await workers("drain", name, *options))) == 2
    assert await listed(*urls) == [(url, name, "draining") for url in urls]
    assert [line for line in lines(await workers("list", *options)) if line in urls] == urls


async def test_a_worker_with_a_key_is_read_from_standard_input(
    administered: RunningGateway,
) -> None:
    text = '{"url": "http://w1:8000", "api_key": "a-secret"}\n'
    result = await workers("add", "-", "--url", administered.url, stdin=text)
    assert lines(result) == [f"added w1:8000 to {administered.url}"]
    assert "a-secret" not in result.output


async def test_what_the_gateway_refuses_is_one_line(administered: RunningGateway) -> None:
    url = administered.url
    assert refused(await workers("drain", "w9", "--url", url)) == (
        f"{url}: There is no worker 'w9' in the pool."
    )
    assert "Incorrect admin token" in refused(await workers("list", "--url", url, token="wrong"))
    assert "url" in refused(await workers("add", "w9", "--url", url))
    assert refused(await workers("add", "{", "--url", url)) == "WORKER: is neither a URL nor JSON"
    assert "GATEWAY_ADMIN_TOKEN: is not set" in refused(
        await workers("list", "--url", url, token=None)
    )


async def test_where_no_admin_api_is_the_command_says_so(
    start_gateway: StartGateway, worker: ScriptedWorker, unused_port: int
) -> None:
    without = await start_gateway(worker)
    assert "is GATEWAY_ADMIN_TOKEN set there?" in refused(
        await workers("list", "--url", without.url)
    )
    nowhere = f"http://127.0.0.1:{unused_port}"
    assert refused(await workers("list", "--url", nowhere)).startswith(f"{nowhere} cannot be asked")


def test_a_file_is_checked_before_it_is_used(tmp_path: Path) -> None:
    def check(text: str) -> Result:
        path = tmp_path / "workers.yaml"
        path.write_text(text)
        return CliRunner().invoke(main, ["workers", "check", str(path)])

    good = check("- http://w0:8000\n- {url: 'http://w1:8000', tags: [long, eu]}\n")
    _, first, second = lines(good)
    assert first.split() == ["w0:8000", "vllm", "parser", "-", "-"]
    assert second.split()[-1] == "eu,long"
    bad = check("- {url: 'http://w0:8000', engine: vlllm}")
    assert refused(bad).startswith("[0][engine]: ")


async def test_a_password_in_the_url_of_a_gateway_is_refused_and_not_repeated() -> None:
    result = await workers("list", "--url", "http://me:hunter22@127.0.0.1:1")
    assert result.exit_code == 2
    assert "GATEWAY_ADMIN_TOKEN" in result.output
    assert "hunter22" not in result.output
