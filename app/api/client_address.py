"""Who the client is where proxies stand in front: the address that the last trusted one saw.

Only `X-Forwarded-For` is read, and only as far as proxies that the settings name have written it,
from the right. Anybody can send `X-Real-IP`, `Forwarded` and the like, and proxies pass on what
they do not know, so no other header is ever believed.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from starlette.types import ASGIApp, Receive, Scope, Send

from app.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Proxies between a client and us. A chain that is longer was made up by somebody.
MAX_HOPS = 32
MAX_PORT = 65_535

_HEADER = b"x-forwarded-for"


class ClientAddresses:
    """Pure ASGI, outermost: whatever asks the scope for its `client` gets the same answer."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            peer, port = scope["client"]
            lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
            address = client_address(peer, lines, self._trusted)
            scope["client"] = (address, port if address == peer else 0)
        await self._app(scope, receive, send)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """`peer`, unless it is a trusted proxy: then the right-most address in the lines of
    `forwarded_for` that is not one, or the left-most where all are.

    An entry that is no address ends the walk at the hop that wrote it, and so does the bound on
    hops: what stands to the left of it could be anybody's. Its clients are then counted as one.
    """
    nearest = parse_address(peer)
    if nearest is None or not _within(nearest, trusted):
        return peer
    for entry in islice(_from_the_right(forwarded_for), MAX_HOPS):
        if not entry:
            continue  # a list may have empty elements (RFC 9110, 5.6.1)
        address = _parse_hop(entry)
        if address is None:
            break
        nearest = address
        if not _within(nearest, trusted):
            break
    return str(nearest)


def parse_address(text: str) -> Address | None:
    """An IPv4 or IPv6 address. IPv4 in IPv6, as a socket for both shows it, is IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _from_the_right(lines: Sequence[str]) -> Iterator[str]:
    """The elements of all lines, which are one list. Of each line no more than may be needed."""
    for line in reversed(lines):
        for entry in reversed(line.rsplit(",", MAX_HOPS)):
            yield entry.strip(" \t")


def _parse_hop(entry: str) -> Address | None:
    """`ip`, `ip:port`, `[v6]` or `[v6]:port`. A zone (`%eth0`) means nothing on another machine,
    and could hold any text."""
    host, port = entry, ""
    if entry.startswith("["):
        host, closed, port = entry[1:].partition("]")
        if not closed or ":" not in host or (port and not port.startswith(":")):
            return None
        if port and not _is_port(port[1:]):
            return None
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
        if not _is_port(port):
            return None
    return None if "%" in host else parse_address(host)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= MAX_PORT
