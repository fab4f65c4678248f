"""Which addresses may be fetched from: everybody's, and none that leads to a network of ours in whatever clothes."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gateway.images.public import is_public

PRIVATE = (
    "0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255",
    "240.0.0.1", "255.255.255.255",
)  # fmt: skip
SPECIAL = (
    "::", "::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "100::1", "64:ff9b:1::1", "2001::1", "2001:10::1", "2001:20::1",
    "2001:db8::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1",
    "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "172.15.0.1", "172.32.0.1", "192.0.1.1", "198.17.255.255",
    "223.255.255.255", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e", "64:ff9b::8.8.8.8",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_given_out_to_anybody_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE + SPECIAL)
def test_no_address_of_a_network_of_ours_or_of_a_special_use_is_public(address: str) -> None:
    assert not is_public(address)


def clothed(address: IPv4Address) -> list[str]:
    """The ways in which IPv6 carries an IPv4 address: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP."""
    number = int(address)
    return [
        f"::ffff:{address}",
        f"::{address}",
        f"::ffff:0:{address}",
        f"64:ff9b::{address}",
        str(ip_address((0x2002 << 112) | number << 80)),
        str(ip_address((0x20010000 << 96) | number << 64 | (number ^ 0xFFFFFFFF))),
        f"fe80::5efe:{address}",
    ]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_ours_is_known_in_ipv6_clothes(address: str) -> None:
    assert not [text for text in clothed(IPv4Address(address)) if is_public(text)]


@given(st.ip_addresses())
def test_whatever_python_calls_special_is_not_public(address: object) -> None:
    """Other than is_global, these say the same in every version."""
    found = ip_address(str(address))
    if found.is_loopback or found.is_multicast or found.is_link_local or found.is_unspecified:
        assert not is_public(str(found))
    if getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or getattr(found, "teredo", None):
        assert not is_public(str(found))


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "010.0.0.1", "8.8.8.8 ", "1.1.1.1/32"]
)
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)
