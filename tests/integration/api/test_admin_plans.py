from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.store.keys import KeyStore
from app.store.policy import Policy
from tests.integration.api.admin import KEYS, client_of, created

PLANS = "/admin/v1/plans"


async def made(client: httpx.AsyncClient, name: str, **policy: object) -> dict[str, Any]:
    response = await client.post(PLANS, json={"name": name, "policy": policy})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_a_plan_is_made_and_shown(client: httpx.AsyncClient) -> None:
    plan = await made(client, "shown", requests_per_minute=60, models=["qwythos"])
    assert plan["object"] == "plan"
    assert (plan["name"], plan["keys"]) == ("shown", 0)
    assert plan["policy"].keys() == Policy.model_fields.keys()
    assert plan["policy"]["requests_per_minute"] == 60
    assert plan["created_at"] == plan["updated_at"] > 1_700_000_000
    assert (await client.get(f"{PLANS}/shown")).json() == plan


async def test_a_key_names_its_plan_and_shows_both_policies(client: httpx.AsyncClient) -> None:
    await made(client, "both", requests_per_minute=60, concurrency=8)
    key = await created(client, plan="both", policy={"concurrency": 2})
    assert key["plan"] == "both"
    own, effective = key["policy"], key["effective_policy"]
    assert (own["requests_per_minute"], own["concurrency"]) == (None, 2)
    assert (effective["requests_per_minute"], effective["concurrency"]) == (60, 2)
    assert (await client.get(f"{PLANS}/both")).json()["keys"] == 1
    without = (await client.patch(f"{KEYS}/{key['id']}", json={"plan": None})).json()
    assert (without["plan"], without["effective_policy"]) == (None, own)


async def test_a_patch_changes_only_what_it_names_and_acts_at_once_on_all_keys(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    await made(client, "patched", requests_per_minute=60, concurrency=8)
    secrets = [(await created(client, plan="patched"))["secret"] for _ in range(3)]
    for secret in secrets:
        assert await keys.authenticate(secret) is not None
    change = {"policy": {"requests_per_minute": None, "tokens_per_day": 500}}
    changed = (await client.patch(f"{PLANS}/patched", json=change)).json()
    assert changed["policy"]["concurrency"] == 8
    for secret in secrets:
        found = await keys.authenticate(secret)
        assert found is not None
        assert found.policy == Policy(concurrency=8, tokens_per_day=500)


async def test_plans_are_listed_in_pages_as_keys_are(client: httpx.AsyncClient) -> None:
    names = [(await made(client, f"page-{number}"))["name"] for number in range(3)]
    first = (await client.get(PLANS, params={"limit": 2})).json()
    assert first["object"] == "list"
    assert [plan["name"] for plan in first["data"]] == [names[2], names[1]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (names[2], names[1], True)
    rest = (await client.get(PLANS, params={"after": names[1], "limit": 1})).json()
    assert [plan["name"] for plan in rest["data"]] == [names[0]]
    for wrong in ({"after": "none"}, {"after": "\0"}, {"limit": 101}):
        response = await client.get(PLANS, params=wrong)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == next(iter(wrong))


async def test_a_plan_is_deleted_once_no_key_refers_to_it(client: httpx.AsyncClient) -> None:
    await made(client, "deleted")
    key = await created(client, plan="deleted")
    refused = await client.delete(f"{PLANS}/deleted")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "plan_in_use")
    assert "1 key refers to it" in refused.json()["error"]["message"]
    await client.delete(f"{KEYS}/{key['id']}")
    gone = await client.delete(f"{PLANS}/deleted")
    assert gone.json() == {"object": "plan.deleted", "name": "deleted", "deleted": True}
    assert (await client.get(f"{PLANS}/deleted")).status_code == 404


async def test_a_name_is_given_once(client: httpx.AsyncClient) -> None:
    await made(client, "once")
    again = await client.post(PLANS, json={"name": "once"})
    error = again.json()["error"]
    assert (again.status_code, error["param"], error["code"]) == (400, "name", "plan_exists")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "No Such"}, "name"),
        ({"name": "x" * 49}, "name"),
        ({"name": "x\n"}, "name"),
        ({"name": "x", "keys": 1}, "keys"),
        ({"name": "x", "policy": {"tokens_per_day": 0}}, "policy.tokens_per_day"),
        ({"name": "x", "policy": {"tokens_per_year": 1}}, "policy.tokens_per_year"),
    ],
)
async def test_a_wrong_field_of_a_plan_is_named(
    client: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    response = await client.post(PLANS, json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("change", [{"name": "other"}, {"policy": None}, {"keys": 0}])
async def test_what_cannot_be_changed_of_a_plan_is_named(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    await made(client, f"fixed-{next(iter(change))}")
    response = await client.patch(f"{PLANS}/fixed-{next(iter(change))}", json=change)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(change)))


@pytest.mark.parametrize("plan", ["none", "No Such", 1])
async def test_a_key_with_an_unknown_plan_is_refused(
    client: httpx.AsyncClient, plan: object
) -> None:
    key = await created(client)
    for response in (
        await client.post(KEYS, json={"name": "x", "plan": plan}),
        await client.patch(f"{KEYS}/{key['id']}", json={"plan": plan}),
    ):
        assert (response.status_code, response.json()["error"]["param"]) == (400, "plan")


async def test_an_unknown_plan_is_not_found_and_an_impossible_name_is_refused(
    client: httpx.AsyncClient,
) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        unknown = await client.request(method, f"{PLANS}/none", json={})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "plan_not_found")
        wrong = await client.request(method, f"{PLANS}/a%00b", json={})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "name")


async def test_without_the_token_nothing_is_told_of_plans_or_tenants(app: FastAPI) -> None:
    async with client_of(app) as stranger:
        for method, path in (
            ("POST", PLANS),
            ("GET", PLANS),
            ("GET", f"{PLANS}/x"),
            ("PATCH", f"{PLANS}/x"),
            ("DELETE", f"{PLANS}/x"),
            ("GET", "/admin/v1/tenants"),
            ("GET", "/admin/v1/tenants/x"),
            ("PATCH", "/admin/v1/tenants/x"),
            ("DELETE", "/admin/v1/tenants/x"),
        ):
            response = await stranger.request(method, path, content=b"{")
            assert response.status_code == 401, (method, path)


async def test_the_openapi_document_describes_the_routes(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert set(paths[PLANS]) == {"get", "post"}
    assert set(paths[PLANS + "/{name}"]) == {"get", "patch", "delete"}
    assert set(paths["/admin/v1/tenants"]) == {"get"}
    assert set(paths["/admin/v1/tenants/{name}"]) == {"get", "patch", "delete"}
    for path in (PLANS, PLANS + "/{name}", "/admin/v1/tenants", "/admin/v1/tenants/{name}"):
        for operation in paths[path].values():
            assert operation["security"] == [{"Admin token": []}]
            assert operation["description"]
