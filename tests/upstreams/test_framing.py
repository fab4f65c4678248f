"""A body ends where its framing says, however its bytes are cut; framing that could be read in two ways is broken."""

from __future__ import annotations

import pytest

from proxy.upstreams.framing import MAX_CHUNK_LINE, MAX_TRAILERS, Body, ChunkedBody, LengthBody, UntilCloseBody


def feed(body: Body, *pieces: bytes) -> bytes:
    return b"".join(body.feed(memoryview(piece)) for piece in pieces)


CHUNKED = [
    (b"0\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5\r\nhello\r\n00006\r\n world\r\n000\r\n\r\n", b"hello world"),
    (b'A;x=1\r\n0123456789\r\n1;y="\xe9"\r\nz\r\n0;last\r\n\r\n', b"0123456789z"),
    (b"2\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n", b"\r\n0\r"),
    (b"1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n", b"a"),
]


@pytest.mark.parametrize(("wire", "content"), CHUNKED)
def test_a_chunked_body_is_the_same_at_every_cut(wire: bytes, content: bytes) -> None:
    for cut in range(len(wire) + 1):
        body = ChunkedBody()
        assert feed(body, wire[:cut], wire[cut:]) == content
        assert (body.complete, body.excess, body.broken) == (True, False, "")


@pytest.mark.parametrize(("wire", "content"), CHUNKED)
def test_a_chunked_body_is_the_same_byte_by_byte_and_no_sooner_complete(wire: bytes, content: bytes) -> None:
    body = ChunkedBody()
    got = b""
    for at in range(len(wire)):
        assert not body.complete
        got += feed(body, wire[at : at + 1])
    assert (got, body.complete, body.broken) == (content, True, "")


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\nhello\r\n",
        b"\r\n5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\nb\r\nhello\r\n",
        b"5;a\0b\r\nhello\r\n",
        b"1000000000000000\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: a\nb\r\n\r\n",
        b"0\r\nX: a\0\r\n\r\n",
        b"5;" + b"e" * (MAX_CHUNK_LINE + 1) + b"\r\nhello\r\n",
        b"5;" + b"e" * (MAX_CHUNK_LINE + 100),
        b"0\r\n" + b"X: y\r\n" * (MAX_TRAILERS // 6 + 1) + b"\r\n",
        b"0\r\nX: " + b"y" * MAX_TRAILERS,
    ],
)
def test_bad_chunks_and_trailers_break_the_body_at_every_cut(wire: bytes) -> None:
    given = set()
    for cut in {*range(min(40, len(wire))), len(wire) // 2, len(wire) - 1}:
        body = ChunkedBody()
        given.add(feed(body, wire[:cut], wire[cut:]))
        assert body.broken
        assert not body.complete
    assert len(given) == 1


@pytest.mark.parametrize(
    "wire", [b"5\n", b"5 ", b"5;a\n", b"g", b"\r", b"5\r\nhello\n", b"0\r\nX ", b"0\r\nX: y\n", b"0\r\n "]
)
def test_a_mistake_is_told_at_once_without_waiting_for_the_lines_end(wire: bytes) -> None:
    body = ChunkedBody()
    feed(body, wire)
    assert body.broken


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"TRANSFER-ENCODING"])
def test_framing_has_no_place_in_trailers_though_names_that_begin_like_it_have(name: bytes) -> None:
    for rest, taken in ((b": 1\r\n\r\n", False), (b"-x: 1\r\n\r\n", True)):
        wire = b"0\r\nA: b\r\n" + name + rest
        for cut in range(len(wire)):
            body = ChunkedBody()
            feed(body, wire[:cut], wire[cut:])
            assert body.complete is taken
            assert bool(body.broken) is not taken


def test_what_stands_before_a_bad_chunk_is_given_out_and_nothing_after_it() -> None:
    body = ChunkedBody()
    assert feed(body, b"5\r\nhello\r\noops\r\n", b"5\r\nworld\r\n0\r\n\r\n") == b"hello"
    assert body.broken


def test_extensions_and_trailers_up_to_their_bounds_are_passed_over() -> None:
    body = ChunkedBody()
    trailers = b"X: y\r\n" * (MAX_TRAILERS // 6 - 1)
    assert feed(body, b"5;" + b"e" * MAX_CHUNK_LINE + b"\r\nhello\r\n0\r\n" + trailers + b"\r\n") == b"hello"
    assert body.complete


def test_bytes_after_the_last_chunk_are_excess_in_the_same_piece_or_the_next() -> None:
    together, after = ChunkedBody(), ChunkedBody()
    assert feed(together, b"1\r\na\r\n0\r\n\r\nH") == feed(after, b"1\r\na\r\n0\r\n\r\n", b"H") == b"a"
    assert together.complete
    assert together.excess
    assert after.excess


def test_an_end_before_the_last_chunk_breaks_the_body() -> None:
    body = ChunkedBody()
    feed(body, b"1\r\na\r\n0\r\n")
    body.end()
    assert body.broken


def test_a_length_body_takes_that_many_bytes_and_calls_the_rest_excess() -> None:
    body = LengthBody(5)
    assert feed(body, b"he", b"llo") == b"hello"
    assert (body.complete, body.excess) == (True, False)
    assert feed(body, b"!") == b""
    assert body.excess


def test_a_length_body_that_ends_early_says_by_how_much() -> None:
    body = LengthBody(5)
    feed(body, b"he")
    body.end()
    assert "3 bytes short" in body.broken


def test_a_body_until_close_is_complete_only_at_a_clean_end() -> None:
    body = UntilCloseBody()
    assert feed(body, b"a", b"b") == b"ab"
    assert not body.complete
    body.end()
    assert body.complete


def test_what_a_body_gives_out_does_not_change_when_its_buffer_is_used_again() -> None:
    for body, wire in ((LengthBody(9), b"12345"), (UntilCloseBody(), b"12345"), (ChunkedBody(), b"5\r\n12345")):
        buffer = bytearray(wire)
        piece = body.feed(memoryview(buffer))
        buffer[:] = b"x" * len(buffer)
        assert piece == b"12345"
