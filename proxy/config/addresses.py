"""IP addresses and networks as people and proxies write them; an IPv4 address in IPv6 clothes is an IPv4 address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d{1,5})?|(?P<v4>[\d.]+):\d{1,5}")


def parse_network(text: str) -> Network:
    """A network ("10.0.0.0/8", "2001:db8::/32") or the network of one address. Raises ValueError, with a sentence."""
    shown = repr(text[:80])
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown} is no address and no network: write one like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32"
        ) from None
    if getattr(network.network_address, "scope_id", None):
        raise ValueError(f"{shown} names an interface: leave out what follows the %")
    if "/" in text and ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"{shown} is an address within a network: write {network} for the network")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
    return network


def parse_address(text: str) -> Address | None:
    """An address, with or without a port, as sockets and proxies write it. None where it is none."""
    if found := _WITH_PORT.fullmatch(text):
        text = found["v6"] or found["v4"] or ""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def host_and_port(text: str, default: int, form: re.Pattern[str]) -> tuple[str, int]:
    """A server as URLs of stores write it; `form` has its host, maybe in brackets, and its port as groups. Raises
    ValueError, with a sentence."""
    found = form.fullmatch(text)
    if not found:
        raise ValueError("must name each server as host:port, several with commas; an IPv6 address in brackets")
    port = int(found[2]) if found[2] else default
    if not 0 < port < 65536:
        raise ValueError("has a port that is none: 1 to 65535")
    return found[1].strip("[]"), port


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    """Who a call comes from: the peer, or whoever the last proxy that isn't ours says it came from.

    `forwarded_for` is the values of `x-forwarded-for`, in their order. Each proxy adds at its end the address that it
    was called from; what a client has written there itself stands before that, and is not believed. None where it
    can't be told.
    """
    address = parse_address(peer) if peer else None
    chain = ",".join(forwarded_for).split(",") if forwarded_for and trusted else []
    while chain and address is not None and any(address in network for network in trusted):
        address = parse_address(chain.pop().strip())
    return address
