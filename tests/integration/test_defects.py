"""A defect of our own: told as one, in the usual shape, without a word of what it was."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.gateway import CHAT, HELLO, Response, RunningGateway
from tests.support.raw_client import request_bytes
from tests.support.scripted_worker import ScriptedWorker


class Defect(Exception):
    """The text must reach no client."""


class Broken:
    """Stands where a part of the gateway should be."""

    def __getattr__(self, name: str) -> Any:
        raise Defect("SECRET")


def break_part(gateway: RunningGateway, name: str) -> None:
    gateway.app.state.gateway = replace(gateway.app.state.gateway, **{name: Broken()})


def assert_told_as_ours(response: Response) -> None:
    assert response.status == 500
    assert (response.error["type"], response.error["code"]) == ("server_error", "internal_error")
    assert b"SECRET" not in response.body
    assert response.request_id.startswith("req_")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("part", ["keys", "limiter", "workers"])
async def test_a_defect_on_the_way_to_the_worker_is_a_500_and_is_recorded(
    part: str, stream: bool, gateway: RunningGateway, worker: ScriptedWorker
) -> None:
    break_part(gateway, part)
    response = await gateway.chat(stream=stream)
    assert_told_as_ours(response)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status, row.error_code) == ("crashed", 500, "internal_error")
    assert worker.requests == []


async def test_a_defect_on_another_route_is_a_500_and_is_recorded(gateway: RunningGateway) -> None:
    break_part(gateway, "keys")
    response = await gateway.request("GET", "/v1/models")
    assert_told_as_ours(response)
    row = await gateway.audited(response.request_id)
    assert (row.outcome, row.status) == ("crashed", 500)


async def test_a_defect_outside_of_the_pipeline_is_a_500_too(gateway: RunningGateway) -> None:
    gateway.app.state.gateway = Broken()
    assert_told_as_ours(await gateway.chat())


async def test_the_gateway_goes_on_after_a_defect(gateway: RunningGateway) -> None:
    whole = gateway.app.state.gateway
    body = {"model": "qwythos", "messages": HELLO}
    async with gateway.raw() as client:
        break_part(gateway, "limiter")
        await client.post(CHAT, gateway.key, body)
        head = await client.head()
        assert head.status == 500
        await client.body(head)
        gateway.app.state.gateway = whole
        await client.send(request_bytes("/healthz", None, b"", method="GET"))
        assert (await client.head()).status == 200
    assert (await gateway.chat()).status == 200
