"""A response is the same however its bytes are cut, and nothing but one valid response is taken for one."""

from __future__ import annotations

import h11
import pytest

from proxy.upstreams.heads import MAX_HEAD
from proxy.upstreams.incoming import MAX_INTERIM, Incoming

RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n5;x\r\nhello\r\n3\r\nyou\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
]


def told(incoming: Incoming, *pieces: bytes) -> bytes:
    return b"".join(incoming.feed(memoryview(piece)) for piece in pieces)


def state(incoming: Incoming) -> tuple[object, ...]:
    return incoming.status, incoming.headers, incoming.complete, incoming.reusable, incoming.broken


@pytest.mark.parametrize("wire", RESPONSES)
def test_a_response_is_the_same_at_every_cut_as_h11_reads_it(wire: bytes) -> None:
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
    peer.receive_data(wire)
    peer.receive_data(b"")
    events = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        events.append(peer.next_event())
    content = b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
    head = next(event for event in events if isinstance(event, h11.Response))
    outcomes = []
    for cut in range(len(wire) + 1):
        incoming = Incoming(b"GET")
        assert told(incoming, wire[:cut], wire[cut:]) == content
        outcomes.append(state(incoming))
        incoming.end()
        assert incoming.complete
    assert outcomes == [outcomes[0]] * len(outcomes)
    assert outcomes[0][:2] == (head.status_code, [tuple(map(bytes, field)) for field in head.headers])


@pytest.mark.parametrize("wire", RESPONSES)
def test_a_response_is_the_same_byte_by_byte(wire: bytes) -> None:
    whole, bytewise = Incoming(b"GET"), Incoming(b"GET")
    assert told(whole, wire) == told(bytewise, *(wire[at : at + 1] for at in range(len(wire))))
    assert state(whole) == state(bytewise)


@pytest.mark.parametrize("wire", RESPONSES[:3])
def test_an_end_before_the_framing_is_complete_breaks_the_response_at_every_byte(wire: bytes) -> None:
    for cut in range(len(wire)):
        incoming = Incoming(b"GET")
        told(incoming, wire[:cut])
        incoming.end()
        assert incoming.broken
        assert not incoming.complete


def test_interim_responses_are_bounded_in_number() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    few, many = Incoming(b"GET"), Incoming(b"GET")
    told(few, interim * MAX_INTERIM + RESPONSES[0])
    told(many, interim * (MAX_INTERIM + 1) + RESPONSES[0])
    assert few.complete
    assert "interim" in many.broken


@pytest.mark.parametrize("fields", [b"", b"Upgrade: x\r\nConnection: upgrade\r\n"])
def test_a_switch_of_protocols_is_refused(fields: bytes) -> None:
    incoming = Incoming(b"GET")
    told(incoming, b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n")
    assert incoming.broken


@pytest.mark.parametrize("cut", [10, MAX_HEAD - 1, MAX_HEAD, MAX_HEAD + 1])
def test_a_head_beyond_its_bound_is_refused_and_one_at_it_is_taken(cut: int) -> None:
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: ", b"\r\n\r\n"
    for extra in (0, 1):
        wire = start + b"y" * (MAX_HEAD - len(start + end) + extra) + end + b"ok"
        incoming = Incoming(b"GET")
        told(incoming, wire[:cut], wire[cut:])
        assert incoming.complete is (not extra)
        assert bool(incoming.broken) is bool(extra)


@pytest.mark.parametrize(
    "wire", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"\n", b"HTTQ", b"HTTP/2"]
)
def test_what_is_not_http_is_refused_before_an_empty_line_comes(wire: bytes) -> None:
    incoming = Incoming(b"GET")
    told(incoming, *(wire[at : at + 1] for at in range(len(wire))))
    assert "not HTTP/1.1" in incoming.broken


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("wire", [b"HTTP/1.1 200 OK\n", b"HTTP/1.1 200 OK\r\nA: b\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\n"])
def test_a_line_that_ends_in_lf_alone_is_refused_before_an_empty_line_comes(interim: bytes, wire: bytes) -> None:
    for pieces in ([interim + wire], [interim, *(wire[at : at + 1] for at in range(len(wire)))]):
        incoming = Incoming(b"GET")
        told(incoming, *pieces)
        assert "CR LF" in incoming.broken


@pytest.mark.parametrize("size", [1, 1000, MAX_HEAD])
def test_interim_heads_count_into_the_bound_of_heads_in_any_pieces(size: int) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n"
    links = MAX_HEAD - len(interim % b"") - 40  # bytes of its only field, so that some 40 are left for the final head
    for extra, taken in ((0, True), (40, False)):
        wire = interim % (b"x" * (links + extra)) + b"HTTP/1.1 204 No Content\r\n\r\n"
        incoming = Incoming(b"GET")
        told(incoming, *(wire[at : at + size] for at in range(0, len(wire), size)))
        assert incoming.complete is taken
        assert bool(incoming.broken) is not taken


def test_bytes_after_the_response_forbid_another_on_its_connection() -> None:
    incoming = Incoming(b"GET")
    assert told(incoming, RESPONSES[0] + b"HTTP/1.1 200 OK\r\n") == b"hello"
    assert incoming.complete
    assert not incoming.reusable


def test_nothing_is_given_out_after_a_mistake() -> None:
    incoming = Incoming(b"GET")
    assert told(incoming, b"HTTP/1.1 200 OK\r\nbad\r\n\r\n", RESPONSES[0]) == b""
    assert incoming.status == 0
