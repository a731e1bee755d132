"""The laws of the walk along `X-Forwarded-For`."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from app.api.client_address import MAX_HOPS, client_address

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]

proxies = st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fd00::/8")
strangers = st.ip_addresses(network="203.0.113.0/24") | st.ip_addresses(network="2001:db8::/32")
anything = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40)
chains = st.lists(proxies.map(str), max_size=MAX_HOPS - 1)


def with_cuts(entries: list[str], cuts: list[bool]) -> list[str]:
    """The same list, as one header line or as several."""
    lines = [entries[0]]
    for entry, cut in zip(entries[1:], cuts, strict=False):
        if cut:
            lines.append(entry)
        else:
            lines[-1] += f", {entry}"
    return lines


@given(
    peer=proxies.map(str),
    claims=st.lists(anything, max_size=5),
    client=strangers.map(str),
    chain=chains,
    cuts=st.lists(st.booleans(), min_size=2 * MAX_HOPS, max_size=2 * MAX_HOPS),
)
def test_nothing_that_a_client_claims_changes_who_it_is(
    peer: str, claims: list[str], client: str, chain: list[str], cuts: list[bool]
) -> None:
    lines = with_cuts([*claims, client, *chain], cuts)
    assert client_address(peer, lines, TRUSTED) == client


@given(peer=strangers.map(str), lines=st.lists(anything, max_size=5))
def test_a_peer_that_is_not_trusted_speaks_for_itself(peer: str, lines: list[str]) -> None:
    assert client_address(peer, lines, TRUSTED) == peer


@given(peer=proxies.map(str), lines=st.lists(anything, max_size=80))
def test_it_is_an_address_whatever_was_sent(peer: str, lines: list[str]) -> None:
    ip_address(client_address(peer, lines, TRUSTED))
