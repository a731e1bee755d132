from ipaddress import ip_network

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.client_address import MAX_HOPS, ClientAddresses, client_address

PROXY = "10.0.0.1"
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]

WALKS = {
    "no proxy": ("192.0.2.9", ["203.0.113.7"], "192.0.2.9"),
    "no header": (PROXY, [], PROXY),
    "one proxy": (PROXY, ["203.0.113.7"], "203.0.113.7"),
    "two proxies": (PROXY, ["203.0.113.7, 10.1.1.1"], "203.0.113.7"),
    "what the client made up": (PROXY, ["198.51.100.1, 203.0.113.7, 10.1.1.1"], "203.0.113.7"),
    "a made-up proxy in front": (PROXY, ["198.51.100.1, 10.9.9.9, 203.0.113.7"], "203.0.113.7"),
    "all trusted": (PROXY, ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
    "several lines": (PROXY, ["198.51.100.1", "203.0.113.7", "10.2.2.2"], "203.0.113.7"),
    "several lines with lists": (
        PROXY,
        ["1.1.1.1, 203.0.113.7", "10.2.2.2,10.3.3.3"],
        "203.0.113.7",
    ),
    "a port": (PROXY, ["203.0.113.7:4711"], "203.0.113.7"),
    "v6": (PROXY, ["2001:db8::7"], "2001:db8::7"),
    "v6 in brackets": (PROXY, ["[2001:db8::7]"], "2001:db8::7"),
    "v6 with a port": (PROXY, ["[2001:db8::7]:443"], "2001:db8::7"),
    "v4 in v6": (PROXY, ["::ffff:203.0.113.7"], "203.0.113.7"),
    "a proxy as v4 in v6": ("::ffff:10.0.0.1", ["203.0.113.7, ::ffff:10.2.2.2"], "203.0.113.7"),
    "a proxy of v6": ("fd00::1", ["203.0.113.7"], "203.0.113.7"),
    "empty elements": (PROXY, [" , 203.0.113.7,, ,10.2.2.2,", ""], "203.0.113.7"),
    "tabs": (PROXY, ["203.0.113.7\t,\t10.2.2.2 "], "203.0.113.7"),
    "v6 in another spelling": (PROXY, ["2001:DB8:0:0::7"], "2001:db8::7"),
    # What is no address ends the walk at the hop that wrote it.
    "unknown": (PROXY, ["203.0.113.7, unknown, 10.2.2.2"], "10.2.2.2"),
    "only garbage": (PROXY, ["garbage"], PROXY),
    "a name": (PROXY, ["203.0.113.7, client.example"], PROXY),
    "a port that is none": (PROXY, ["203.0.113.7:x"], PROXY),
    "a port too large": (PROXY, ["203.0.113.7:65536"], PROXY),
    "no port after the colon": (PROXY, ["203.0.113.7:"], PROXY),
    "a bracket left open": (PROXY, ["[2001:db8::7"], PROXY),
    "text behind the bracket": (PROXY, ["[2001:db8::7]x"], PROXY),
    "v4 in brackets": (PROXY, ["[203.0.113.7]"], PROXY),
    "a zone": (PROXY, ["fe80::1%eth0"], PROXY),
    "quotes": (PROXY, ['"203.0.113.7"'], PROXY),
    "octal": (PROXY, ["0203.0.113.7"], PROXY),
    "a network": (PROXY, ["203.0.113.0/24"], PROXY),
    "other digits": (PROXY, ["203.0.113.\xb2"], PROXY),
    "a peer without an address": ("testclient", ["203.0.113.7"], "testclient"),
}


@pytest.mark.parametrize("name", WALKS)
def test_the_client_is_whom_the_last_trusted_proxy_saw(name: str) -> None:
    peer, lines, client = WALKS[name]
    assert client_address(peer, lines, TRUSTED) == client


def test_without_trusted_proxies_no_header_says_anything() -> None:
    assert client_address(PROXY, ["203.0.113.7"], []) == PROXY


def test_no_more_hops_are_looked_at_than_any_real_chain_has() -> None:
    proxies = [f"10.0.1.{number}" for number in range(MAX_HOPS)]
    longest = ", ".join(["203.0.113.7", *proxies[1:]])
    assert client_address(PROXY, [longest], TRUSTED) == "203.0.113.7"
    too_long = ["203.0.113.7, " + ", ".join(proxies)]
    assert client_address(PROXY, too_long, TRUSTED) == "10.0.1.0"
    assert client_address(PROXY, ["203.0.113.7", *proxies], TRUSTED) == "10.0.1.0"
    assert client_address(PROXY, ["203.0.113.7" + "," * MAX_HOPS], TRUSTED) == PROXY


async def test_the_scope_names_the_client_and_not_the_proxy() -> None:
    headers = [
        (b"x-real-ip", b"198.51.100.1"),
        (b"forwarded", b"for=198.51.100.2"),
        (b"x-client-ip", b"198.51.100.3"),
        (b"true-client-ip", b"198.51.100.4"),
        (b"x_forwarded_for", b"198.51.100.5"),
        (b"x-forwarded-for", b"203.0.113.7"),
        (b"cf-connecting-ip", b"198.51.100.6"),
    ]
    assert await seen_client((PROXY, 1234), headers) == ("203.0.113.7", 0)
    assert await seen_client((PROXY, 1234), headers[:5]) == (PROXY, 1234)
    assert await seen_client(("192.0.2.9", 1234), headers) == ("192.0.2.9", 1234)
    assert await seen_client(None, headers) is None


async def seen_client(
    client: tuple[str, int] | None, headers: list[tuple[bytes, bytes]]
) -> tuple[str, int] | None:
    seen: list[tuple[str, int] | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])

    async def nothing() -> Message:
        raise AssertionError("nothing is read")

    async def nowhere(message: Message) -> None:
        raise AssertionError("nothing is sent")

    scope = {"type": "http", "client": client, "headers": headers}
    await ClientAddresses(app, TRUSTED)(scope, nothing, nowhere)
    return seen[0]
