import time
from collections.abc import AsyncIterator

import httpx
import pytest

from app.api.admin_guard import MAX_BODY_BYTES
from app.store.keys import KeyStore
from app.store.policy import Policy
from app.store.secrets import digest_of
from tests.integration.api.admin import KEYS, PEPPER, created


async def test_a_created_key_is_shown_with_its_secret_once(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    policy = {"requests_per_minute": 60, "models": ["qwythos"]}
    key = await created(client, tenant="acme", policy=policy)
    found = await keys.authenticate(key["secret"])
    assert found is not None
    assert found.id == key["id"]
    again = (await client.get(f"{KEYS}/{key['id']}")).json()
    assert again == {name: value for name, value in key.items() if name != "secret"}
    assert again["object"] == "api_key"
    assert again["policy"]["requests_per_minute"] == 60
    assert again["secrets"][0]["hint"] == f"sk-qw-...{key['secret'][-4:]}"


async def test_no_answer_holds_a_digest_or_an_old_secret(client: httpx.AsyncClient) -> None:
    key = await created(client)
    answers = [
        await client.get(KEYS),
        await client.get(f"{KEYS}/{key['id']}"),
        await client.patch(f"{KEYS}/{key['id']}", json={"name": "renamed"}),
        await client.post(f"{KEYS}/{key['id']}/rotate"),
        await client.delete(f"{KEYS}/{key['id']}"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5
    for answer in answers:
        assert key["secret"] not in answer.text
        assert digest_of(key["secret"], PEPPER).hex() not in answer.text
        assert "digest" not in answer.text


async def test_keys_are_listed_in_pages_as_openai_lists_things(client: httpx.AsyncClient) -> None:
    ids = [(await created(client, tenant="paged"))["id"] for _ in range(3)]
    first = (await client.get(KEYS, params={"tenant": "paged", "limit": 2})).json()
    assert first["object"] == "list"
    assert [key["id"] for key in first["data"]] == [ids[2], ids[1]]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[2], ids[1], True)
    rest = (await client.get(KEYS, params={"tenant": "paged", "after": first["last_id"]})).json()
    assert [key["id"] for key in rest["data"]] == [ids[0]]
    assert rest["has_more"] is False


async def test_an_empty_list_has_no_ids(client: httpx.AsyncClient) -> None:
    page = (await client.get(KEYS, params={"tenant": "nobody"})).json()
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None} | {
        "has_more": False
    }


async def test_a_patch_changes_only_what_it_names(client: httpx.AsyncClient) -> None:
    key = await created(client, policy={"requests_per_minute": 60, "concurrency": 4})
    end = int(time.time()) + 3600
    change = {"expires_at": end, "policy": {"requests_per_minute": None}}
    changed = (await client.patch(f"{KEYS}/{key['id']}", json=change)).json()
    assert changed["expires_at"] == end
    assert changed["name"] == "backend"
    assert changed["policy"]["requests_per_minute"] is None
    assert changed["policy"]["concurrency"] == 4


POLICY = {
    "models": ["qwythos"],
    "max_output_tokens": 512,
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "concurrency": 4,
    "tokens_per_day": 10_000,
    "tokens_per_month": 100_000,
    "max_cold_prefill_tokens": 50_000,
    "reasoning": "visible",
    "reasoning_content": True,
    "unreadable_reasoning": "refuse",
    "think_in_answer": "show",
    "max_thinking_tokens": 2048,
    "salvage_tokens": 256,
    "max_messages": 100,
    "max_prompt_characters": 1_000_000,
    "cold_sampling": "pass",
    "engine_parameters": ["seed", "top_k"],
    "tools": [{"name": "read_[a-z]*", "arguments": {"path": "/srv/[^/]+"}}],
    "filter_profile": "strict",
    "domains": {"medical": "refuse", "law": "annotate"},
    "priority": "batch",
    "worker_tags": ["long"],
    "finish_after_leaving_seconds": 60.0,
    "audit": "full+reasoning",
}


async def test_every_field_of_the_policy_can_be_set_read_and_taken_away(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    assert POLICY.keys() == Policy.model_fields.keys()
    key = await created(client, policy=POLICY)
    path = f"{KEYS}/{key['id']}"
    assert key["policy"] == (await client.get(path)).json()["policy"] == POLICY
    expected: dict[str, object] = dict(POLICY)
    for name in POLICY:
        changed = await client.patch(path, json={"policy": {name: None}})
        expected[name] = None
        assert changed.json()["policy"] == expected
        found = await keys.authenticate(key["secret"])
        assert found is not None
        assert found.policy.model_dump(mode="json") == expected


async def test_a_list_in_a_policy_is_changed_as_a_whole(client: httpx.AsyncClient) -> None:
    key = await created(client, policy=POLICY)
    change = {"policy": {"tools": [], "engine_parameters": ["min_p"]}}
    changed = (await client.patch(f"{KEYS}/{key['id']}", json=change)).json()
    assert changed["policy"] == POLICY | change["policy"]


WRONG_POLICIES: list[tuple[dict[str, object], str, str]] = [
    ({"reasoning": "loud"}, "reasoning", "'hidden', 'visible' or 'sealed'"),
    ({"reasoning_content": "yes"}, "reasoning_content", "a valid boolean"),
    ({"unreadable_reasoning": "open"}, "unreadable_reasoning", "'ignore' or 'refuse'"),
    ({"think_in_answer": True}, "think_in_answer", "'hide' or 'show'"),
    ({"max_thinking_tokens": 0}, "max_thinking_tokens", "greater than or equal to 1"),
    ({"salvage_tokens": -1}, "salvage_tokens", "greater than or equal to 1"),
    ({"filter_profile": "No Such"}, "filter_profile", "should match pattern"),
    ({"domains": {"medical": "forbid"}}, "domains.medical", "'allow', 'annotate' or 'refuse'"),
    ({"domains": {"astrology": "refuse"}}, "domains.astrology", "'cybersecurity', 'medical'"),
    ({"audit": "everything"}, "audit", "'metadata', 'full' or 'full+reasoning'"),
    ({"cold_sampling": "warm"}, "cold_sampling", "'raise', 'refuse' or 'pass'"),
    ({"engine_parameters": ["seed", "logprobs"]}, "engine_parameters[1]", "'top_k'"),
    ({"models": ["a\0b"]}, "models[0]", "holds a NUL"),
    ({"tools": "read_*"}, "tools", "a valid tuple"),
    ({"tools": ["read_*"]}, "tools[0]", "or object"),
    ({"tools": [{"name": "x"}] * 257}, "tools", "at most 256 items"),
    ({"tools": [{"arguments": {}}]}, "tools[0].name", "Missing required"),
    ({"tools": [{"name": ""}]}, "tools[0].name", "at least 1 character"),
    ({"tools": [{"name": "x" * 65}]}, "tools[0].name", "at most 64 characters"),
    ({"tools": [{"name": "read file"}]}, "tools[0].name", "not a glob"),
    ({"tools": [{"name": "x"}, {"name": "read_[a-z"}]}, "tools[1].name", "not a glob"),
    ({"tools": [{"name": "x", "args": {}}]}, "tools[0].args", "Unrecognized"),
]
WRONG_PATTERNS = [
    ("(", "is not a regular expression"),
    ("a{99999999999}", "is not a regular expression"),
    ("[[a]]", "is not a regular expression"),
    (r"(a)\1", "is not a regular expression for policies: backreferences"),
    ("(?=a)b", "is not a regular expression for policies: look-around"),
    (r"(?:\w{100}){100}", "is not a regular expression for policies: compiled regex exceeds"),
    ("(?x)a # b", "is not a regular expression for policies"),
    ("a\0b", "holds a NUL"),
    ("a" * 513, "at most 512 characters"),
    (1, "a valid string"),
]


@pytest.mark.parametrize(
    ("policy", "param", "words"),
    [
        *WRONG_POLICIES,
        *(
            ({"tools": [{"name": "x", "arguments": {"path": pattern}}]}, param, words)
            for param in ["tools[0].arguments.path"]
            for pattern, words in WRONG_PATTERNS
        ),
        ({"tools": [{"name": "x", "arguments": {"a\0": "a"}}]}, "tools[0].arguments", "a NUL"),
        ({"tools": [{"name": "x", "arguments": {"a" * 257: "a"}}]}, "tools[0].arguments", "256"),
        (
            {"tools": [{"name": "x", "arguments": {str(n): "a" for n in range(64)}}] * 5},
            "tools",
            "at most 256 patterns in all",
        ),
    ],
)
async def test_what_is_wrong_in_a_policy_is_named(
    client: httpx.AsyncClient, policy: dict[str, object], param: str, words: str
) -> None:
    key = await created(client)
    for response in (
        await client.post(KEYS, json={"name": "x", "policy": policy}),
        await client.patch(f"{KEYS}/{key['id']}", json={"policy": policy}),
    ):
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"] == f"policy.{param}"
        assert words.lower() in error["message"].lower()
        assert "\n" not in error["message"]
    assert set((await client.get(f"{KEYS}/{key['id']}")).json()["policy"].values()) == {None}


async def test_disabling_acts_at_once(client: httpx.AsyncClient, keys: KeyStore) -> None:
    key = await created(client)
    assert await keys.authenticate(key["secret"]) is not None
    await client.patch(f"{KEYS}/{key['id']}", json={"enabled": False})
    assert await keys.authenticate(key["secret"]) is None


async def test_deleting_revokes_for_ever(client: httpx.AsyncClient, keys: KeyStore) -> None:
    key = await created(client)
    answer = (await client.delete(f"{KEYS}/{key['id']}")).json()
    assert answer == {"object": "api_key.deleted", "id": key["id"], "deleted": True}
    assert await keys.authenticate(key["secret"]) is None
    assert (await client.get(f"{KEYS}/{key['id']}")).json()["revoked_at"] is not None
    back = await client.patch(f"{KEYS}/{key['id']}", json={"enabled": True})
    assert (back.status_code, back.json()["error"]["code"]) == (400, "key_revoked")


async def test_both_secrets_work_after_a_rotation(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    key = await created(client)
    rotated = (await client.post(f"{KEYS}/{key['id']}/rotate")).json()
    assert await keys.authenticate(key["secret"]) is not None
    assert await keys.authenticate(rotated["secret"]) is not None
    assert [secret["expires_at"] is None for secret in rotated["secrets"]] == [True, False]


async def test_a_rotation_without_grace_ends_the_old_secret(
    client: httpx.AsyncClient, keys: KeyStore
) -> None:
    key = await created(client)
    await client.post(f"{KEYS}/{key['id']}/rotate", json={"grace_seconds": 0})
    assert await keys.authenticate(key["secret"]) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "x", "tenant": "a b"}, "tenant"),
        ({"name": "x", "enabled": "yes"}, "enabled"),
        ({"name": "x", "id": "key_mine"}, "id"),
        ({"name": "x", "policy": {"requests_per_minute": 0}}, "policy.requests_per_minute"),
        ({"name": "x", "policy": {"admin": True}}, "policy.admin"),
        ({"name": "x", "expires_at": 1}, "expires_at"),
        ({"name": "x", "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
    ],
)
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, body: dict[str, object], param: str
) -> None:
    response = await client.post(KEYS, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b'"x"', b'{"name": "\\ud800"}', b'{"name": "\xff"}']
)
async def test_a_body_that_is_no_key_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post(KEYS, content=content, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_bound_is_refused(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    headers = {"content-type": "application/json"}
    response = await client.post(KEYS, content=endless(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("change", [{"name": None}, {"id": "key_x"}, {"revoked_at": None}])
async def test_what_cannot_be_changed_is_named(
    client: httpx.AsyncClient, change: dict[str, object]
) -> None:
    key = await created(client)
    response = await client.patch(f"{KEYS}/{key['id']}", json=change)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(change))


async def test_an_unknown_key_is_not_found(client: httpx.AsyncClient) -> None:
    for method, path in (
        ("GET", f"{KEYS}/key_none"),
        ("PATCH", f"{KEYS}/key_none"),
        ("DELETE", f"{KEYS}/key_none"),
        ("POST", f"{KEYS}/key_none/rotate"),
    ):
        response = await client.request(method, path, json={})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "key_not_found"
