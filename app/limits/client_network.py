"""Which network an address is in: whom a limit counts before any key is known."""

import ipaddress

# What one customer is given; within it an address costs nothing.
IPV6_PREFIX_BITS = 64
UNKNOWN = "unknown"


def client_network(address: str | None) -> str:
    """The IPv4 address itself, or the /64 of an IPv6 one; never empty. IPv4 in IPv6 is IPv4."""
    if not address:
        return UNKNOWN
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # what the server calls a peer that has no address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), IPV6_PREFIX_BITS), strict=False))
