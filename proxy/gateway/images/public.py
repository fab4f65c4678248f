"""Which IP addresses are anybody's: where a picture named by URL may be fetched from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

_OURS_OR_NOBODYS = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791); Linux takes it for this machine
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared with a carrier (RFC 6598); Alibaba Cloud's metadata is there, too
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform, which answers its machines alone
        "169.254.0.0/16",  # link-local, with most clouds' metadata at 169.254.169.254
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890); Oracle Cloud's metadata
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
"""https://www.iana.org/assignments/iana-ipv4-special-registry and what clouds put elsewhere. A list of our own, for
`ipaddress.is_global` says other things in other versions of Python."""

_GLOBAL = IPv6Network("2000::/3")
"""All that is given out of IPv6. Left out so: loopback, mapped and compatible IPv4, unique local (fc00::/7, the
metadata of clouds in it), link-local, site-local, multicast, discard."""
_NOT_OF_IT = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo (2001::/32) among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which leads to an IPv4 address
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
"""How an IPv4 address looks in a network that has IPv6 only (RFC 6052)."""


def is_public(text: str) -> bool:
    """Whether it is an IP address, as a resolver writes it, that leads to no network of ours and to no special use."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if not isinstance(address, IPv4Address):
        if address not in _NAT64:
            return (
                address.scope_id is None
                and address in _GLOBAL
                and not any(address in network for network in _NOT_OF_IT)
            )
        address = IPv4Address(address.packed[12:])
    return not any(address in network for network in _OURS_OR_NOBODYS)
