"""Addresses and networks: which are taken, that IPv4 in IPv6 clothes is IPv4, and whose forwarded-for counts."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.addresses import Address, client_address, parse_address, parse_network


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
    ],
)
def test_a_network_is_read_whichever_way_it_is_written(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("10.0.0.1/8", r"'10.0.0.1/8' is an address within a network: write 10.0.0.0/8"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        ("fe80::1%eth0", "names an interface"),
        ("fe80::%eth0/10", "names an interface"),
        ("", "is no address and no network"),
        ("*", "is no address and no network"),
        ("10.0.0", "is no address and no network"),
        ("10.0.0.0/33", "is no address and no network"),
        ("010.0.0.1", "is no address and no network"),
        ("example.com", "is no address and no network"),
        ("\u0661\u0660.0.0.1", "is no address and no network"),
        ("10.0.0.0/8 ", "is no address and no network"),
        ("x" * 10_000, "is no address and no network"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        parse_network(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1:5678", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1"),
        ("::1", "::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_read_as_sockets_and_proxies_write_it(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize(
    "text", ["", "unknown", "10.0.0.1:", "10.0.0.1:123456", "[::1", "[]", "_hidden", "10.0.0.1,::1"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


OURS = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.66, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["192.0.2.66", "203.0.113.9,10.0.0.2", "2001:db8::1"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9, unknown"], None),
        ("10.0.0.1", [""], None),
        (None, ["203.0.113.9"], None),
        ("", [], None),
    ],
)
def test_forwarded_for_counts_as_far_as_our_own_proxies_wrote_it(
    peer: str | None, forwarded_for: list[str], client: str | None
) -> None:
    assert client_address(peer, forwarded_for, OURS) == (ip_address(client) if client else None)


def test_without_trusted_proxies_nobodys_word_counts() -> None:
    assert client_address("10.0.0.1", ["203.0.113.9"], []) == ip_address("10.0.0.1")


@given(st.lists(st.ip_addresses() | st.sampled_from([ip_address("10.0.0.7")])), st.text(max_size=40))
def test_nothing_that_a_client_writes_before_its_own_address_is_believed(chain: list[Address], junk: str) -> None:
    written = ", ".join([junk.replace("\n", ""), *map(str, chain), "198.51.100.1", "10.9.9.9"])
    assert client_address("10.0.0.1", [written], OURS) == ip_address("198.51.100.1")
