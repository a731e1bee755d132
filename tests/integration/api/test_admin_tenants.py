from typing import Any

import httpx
import pytest

from app.store.keys import KeyStore
from app.store.policy import Limits
from tests.integration.api.admin import created

TENANTS = "/admin/v1/tenants"
LIMITS = {
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "concurrency": 4,
    "tokens_per_day": 10_000,
    "tokens_per_month": 100_000,
}


async def limited(client: httpx.AsyncClient, name: str, **limits: object) -> dict[str, Any]:
    response = await client.patch(f"{TENANTS}/{name}", json={"limits": limits})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_a_tenant_is_limited_and_shown_before_it_has_a_key(
    client: httpx.AsyncClient,
) -> None:
    assert LIMITS.keys() == Limits.model_fields.keys()
    tenant = await limited(client, "shown", **LIMITS)
    assert tenant["object"] == "tenant"
    assert (tenant["name"], tenant["limits"], tenant["keys"]) == ("shown", LIMITS, 0)
    assert (await client.get(f"{TENANTS}/shown")).json() == tenant
    await created(client, tenant="shown")
    assert (await client.get(f"{TENANTS}/shown")).json()["keys"] == 1


@pytest.mark.parametrize("name", ["acme/team-1", "a@b.example:8080", "A" * 128])
async def test_every_name_of_a_tenant_fits_into_the_path(
    client: httpx.AsyncClient, name: str
) -> None:
    assert (await limited(client, name, concurrency=1))["name"] == name
    for path in (name, name.replace("/", "%2F")):
        assert (await client.get(f"{TENANTS}/{path}")).json()["name"] == name
    gone = (await client.delete(f"{TENANTS}/{name}")).json()
    assert gone == {"object": "tenant.deleted", "name": name, "deleted": True}


async def test_a_patch_changes_only_what_it_names_and_acts_at_once(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    key = await created(client, tenant="patched")
    assert await keys.authenticate(key["secret"]) is not None
    await limited(client, "patched", concurrency=4, tokens_per_day=7)
    changed = await limited(client, "patched", concurrency=None, tokens_per_month=70)
    assert changed["limits"]["tokens_per_day"] == 7
    found = await keys.authenticate(key["secret"])
    assert found is not None
    assert found.tenant_limits == Limits(tokens_per_day=7, tokens_per_month=70)
    await client.delete(f"{TENANTS}/patched")
    found = await keys.authenticate(key["secret"])
    assert found is not None
    assert found.tenant_limits == Limits()


async def test_tenants_are_listed_in_pages_as_keys_are(client: httpx.AsyncClient) -> None:
    names = [(await limited(client, f"page/{number}"))["name"] for number in range(3)]
    first = (await client.get(TENANTS, params={"limit": 2})).json()
    assert [tenant["name"] for tenant in first["data"]] == [names[2], names[1]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (names[2], names[1], True)
    rest = (await client.get(TENANTS, params={"after": names[1], "limit": 1})).json()
    assert [tenant["name"] for tenant in rest["data"]] == [names[0]]


async def test_what_its_keys_may_do_without_an_audit_log_is_closed_until_it_is_opened(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    key = await created(client, tenant="opened")
    found = await keys.authenticate(key["secret"])
    assert found is not None
    assert found.tenant_audit_on_failure == "closed"
    assert (await limited(client, "opened", concurrency=4))["audit_on_failure"] == "closed"
    for value in ("open_metadata", "closed"):
        change = {"audit_on_failure": value}
        changed = (await client.patch(f"{TENANTS}/opened", json=change)).json()
        assert changed["audit_on_failure"] == value
        assert changed["limits"]["concurrency"] == 4
        found = await keys.authenticate(key["secret"])
        assert found is not None
        assert found.tenant_audit_on_failure == value


async def test_a_tenant_without_settings_is_not_found(client: httpx.AsyncClient) -> None:
    await created(client, tenant="plain")
    for method in ("GET", "DELETE"):
        response = await client.request(method, f"{TENANTS}/plain")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "tenant_not_found")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("x", {"limits": {"concurrency": 0}}, "limits.concurrency"),
        ("x", {"limits": {"models": []}}, "limits.models"),
        ("x", {"limits": None}, "limits"),
        ("x", {"policy": {}}, "policy"),
        ("x", {"audit_on_failure": "open"}, "audit_on_failure"),
        ("x", {"audit_on_failure": None}, "audit_on_failure"),
        ("a%20b", {"limits": {}}, "name"),
        ("a%00b", {"limits": {}}, "name"),
        ("", {"limits": {}}, "name"),
        ("x" * 129, {"limits": {}}, "name"),
    ],
)
async def test_what_is_wrong_in_a_change_is_named(
    client: httpx.AsyncClient, path: str, body: dict[str, object], param: str
) -> None:
    response = await client.patch(f"{TENANTS}/{path}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert (await client.get(TENANTS, params={"after": "x"})).status_code == 400  # nothing was made
