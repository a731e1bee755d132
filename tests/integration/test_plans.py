"""Plans as their users meet them: one edit over HTTP, and the keys' next requests obey it."""

import json

from tests.support.gateway import HELLO, RunningGateway, StartGateway
from tests.support.scripted_worker import ScriptedWorker

TOKEN = "admin-token-for-tests"


async def admin(
    gateway: RunningGateway, method: str, path: str, **body: object
) -> dict[str, object]:
    response = await gateway.request(
        method, f"/admin/v1/{path}", body=json.dumps(body).encode(), key=TOKEN
    )
    assert response.status in (200, 201), response.body
    return response.json


async def test_keys_obey_the_plan_that_they_refer_to_and_its_change_at_once(
    start_gateway: StartGateway, worker: ScriptedWorker
) -> None:
    gateway = await start_gateway(worker, admin_token=TOKEN)
    await admin(gateway, "POST", "plans", name="short", policy={"max_messages": 1})
    secrets = [
        str((await admin(gateway, "POST", "keys", name="x", plan="short"))["secret"])
        for _ in range(2)
    ]
    for secret in secrets:
        refused = await gateway.chat(key=secret, messages=HELLO * 2)
        assert (refused.status, refused.error["param"]) == (400, "messages")
        assert (await gateway.chat(key=secret)).status == 200
    await admin(gateway, "PATCH", "plans/short", policy={"max_messages": 2})
    for secret in secrets:
        assert (await gateway.chat(key=secret, messages=HELLO * 2)).status == 200
