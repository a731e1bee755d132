"""What an address commits to, and who can tell."""

import hmac
from dataclasses import replace
from hashlib import sha256

import pytest

from app.audit.content.nodes import (
    MAX_CACHED_TENANTS,
    ROOT,
    MessageUnreadable,
    TenantAddresses,
    check_address,
    message_payload,
    read_message_payload,
)

PEPPER = b"p" * 32
BODY = b'{"content":"hi","role":"user"}'
ADDRESSES = TenantAddresses(PEPPER)


def test_an_address_is_made_as_it_is_documented() -> None:
    node = ADDRESSES.node("acme", ROOT, BODY)
    digest = sha256(BODY).digest()
    key = hmac.digest(PEPPER, b"audit-content:acme", "sha256")
    assert node.salt == hmac.digest(key, ROOT + digest, "sha256")
    assert node.address == sha256(node.salt + ROOT + digest).digest()


def test_every_process_gives_a_message_the_same_address() -> None:
    assert TenantAddresses(PEPPER).node("acme", ROOT, BODY) == ADDRESSES.node("acme", ROOT, BODY)


def test_another_tenant_parent_body_or_pepper_gives_another_address() -> None:
    parent = ADDRESSES.node("acme", ROOT, BODY).address
    nodes = [
        ADDRESSES.node("acme", ROOT, BODY),
        ADDRESSES.node("acmf", ROOT, BODY),
        ADDRESSES.node("acme", parent, BODY),
        ADDRESSES.node("acme", ROOT, BODY + b" "),
        TenantAddresses(b"q" * 32).node("acme", ROOT, BODY),
    ]
    assert len({node.address for node in nodes}) == len({node.salt for node in nodes}) == len(nodes)


def test_a_stranger_verifies_an_address_from_what_is_stored() -> None:
    node = ADDRESSES.node("acme", ROOT, BODY)
    assert check_address(node.salt, node.parent, node.body, node.address)
    assert not check_address(node.salt, node.parent, node.body + b" ", node.address)
    assert not check_address(node.salt, node.address, node.body, node.address)
    assert not check_address(bytes(32), node.parent, node.body, node.address)


def test_tenants_beyond_those_that_are_remembered_keep_their_addresses() -> None:
    addresses = TenantAddresses(PEPPER)
    tenants = [f"tenant-{number}" for number in range(MAX_CACHED_TENANTS + 2)]
    first = [addresses.node(tenant, ROOT, BODY) for tenant in tenants]
    assert [addresses.node(tenant, ROOT, BODY) for tenant in tenants] == first


@pytest.mark.parametrize("body", [b"{}", BODY, b"long " * 10_000])
@pytest.mark.parametrize("tenant", ["", "acme", "é" * 128])
def test_a_payload_gives_back_what_was_put_into_it(body: bytes, tenant: str) -> None:
    node = ADDRESSES.node(tenant, b"\x01" * 32, body)
    message = read_message_payload(message_payload(node, tenant))
    assert (message.tenant, message.address, message.parent) == (tenant, node.address, node.parent)
    assert message.salt == node.salt
    assert message.text() == body
    assert message.intact
    assert not message.erased


def test_a_changed_body_is_not_intact() -> None:
    message = read_message_payload(message_payload(ADDRESSES.node("acme", ROOT, BODY), "acme"))
    assert not replace(message, body=message.body + b" ").intact
    assert not replace(message, body=b"", encoding=1).intact
    assert not replace(message, parent=message.address).intact
    assert not replace(message, encoding=77).intact


def test_an_erased_message_has_no_text() -> None:
    message = read_message_payload(message_payload(ADDRESSES.node("acme", ROOT, BODY), "acme"))
    erased = replace(message, salt=b"", body=b"", encoding=2)
    assert erased.erased
    assert erased.text() is None
    assert not erased.intact


def test_what_is_no_payload_is_refused() -> None:
    payload = message_payload(ADDRESSES.node("acme", ROOT, BODY), "acme")
    head = 4 + len("acme") + 3 * 32
    unreadable = [payload[:end] for end in range(head)]
    unreadable += [b"\x02" + payload[1:], payload.replace(b"acme", b"\xff\xff\xff\xff")]
    for wrong in unreadable:
        with pytest.raises(MessageUnreadable):
            read_message_payload(wrong)
