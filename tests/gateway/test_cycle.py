"""One request and its response as the app sees them: body pieces, framing, and breaking off that looks broken."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest

from tests.gateway.test_heads import GET, POST
from tests.gateway.wire import door, parse

pytestmark = pytest.mark.anyio

MIB = 1 << 20
CLOSE = GET[:-2] + b"connection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


class Sends:
    """Answers with these pieces; breaks off, raises or just ends after them where it is told to."""

    def __init__(self, *pieces: bytes, status: int = 200, then: str = "end", headers: Any = ()) -> None:
        self.pieces, self.status, self.then, self.headers = pieces, status, then, headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if self.then == "break off":
            scope["extensions"]["weighbridge"].break_off()
            await send({"type": "http.response.body", "body": b"too late"})
        elif self.then == "raise":
            raise ValueError("a mistake")
        elif self.then == "end":
            await send({"type": "http.response.body", "body": b""})


LENGTH_9 = [(b"content-length", b"9")]


@pytest.mark.parametrize("raw", [CLOSE, OLD])
@pytest.mark.parametrize("headers", [(), LENGTH_9])
async def test_every_framing_brings_the_same_body(raw: bytes, headers: Any) -> None:
    async with door(Sends(b"one", b"", b"two", b"six", headers=headers)) as gateway:
        answer = await gateway.ask(raw)
    assert parse(answer).body == b"onetwosix"
    assert (b"transfer-encoding: chunked" in answer) == (raw is CLOSE and not headers)


@pytest.mark.parametrize(("status", "method"), [(204, b"GET"), (304, b"GET"), (200, b"HEAD")])
async def test_a_response_without_a_body_has_none_whatever_the_app_sends(status: int, method: bytes) -> None:
    async with door(Sends(b"body", status=status)) as gateway:
        answer = await gateway.ask(CLOSE.replace(b"GET", method))
    assert answer.endswith(b"\r\n\r\n")
    assert parse(answer, method.decode()).status == status
    assert b"transfer-encoding" not in answer


async def test_pieces_of_every_size_cross_whole() -> None:
    pieces = [bytes([n % 251]) * n for n in (1, 15, 16, 4095, 16384, 16385, 65536, MIB, 3 * MIB)]
    async with door(Sends(*pieces)) as gateway:
        assert parse(await gateway.ask(CLOSE)).body == b"".join(pieces)


async def test_the_framing_is_the_servers_own_and_the_apps_other_headers_cross_as_they_are() -> None:
    headers = [(b"transfer-encoding", b"gzip"), (b"a", b"1"), (b"a", b"2"), (b"connection", b"x")]
    async with door(Sends(b"x", headers=headers)) as gateway:
        answer = await gateway.ask(CLOSE)
    assert answer == (
        b"HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )


async def test_the_apps_wish_to_close_is_followed() -> None:
    async with door(Sends(b"x", headers=[(b"connection", b"close")])) as gateway:
        assert parse(await gateway.ask(GET)).headers[b"connection"] == b"close"


async def test_an_empty_piece_sends_the_head_and_does_not_end_a_chunked_body() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"x"})

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(CLOSE)
        head = await connection.reader.readuntil(b"\r\n\r\n")
        go.set()
        assert parse(head + await connection.rest()).body == b"x"


@pytest.mark.parametrize("then", ["break off", "raise", "return"])
@pytest.mark.parametrize("headers", [(), LENGTH_9])
async def test_a_response_that_is_broken_off_can_not_be_taken_for_a_whole_one(then: str, headers: Any) -> None:
    async with door(Sends(b"one", then=then, headers=headers)) as gateway:
        answer = await gateway.ask(CLOSE)
    assert b"one" in answer
    with pytest.raises(h11.RemoteProtocolError):
        parse(answer)


@pytest.mark.parametrize("then", ["break off", "raise", "return"])
async def test_an_http_1_0_client_sees_a_reset_where_only_the_close_would_tell_it_the_end(then: str) -> None:
    async with door(Sends(b"one", then=then)) as gateway:
        with pytest.raises(ConnectionResetError):
            await gateway.ask(OLD)


async def test_breaking_off_before_anything_was_sent_sends_nothing() -> None:
    async with door(Sends(then="break off", headers=[(b"content-length", b"0")])) as gateway:
        assert await gateway.ask(CLOSE) == b""


async def test_breaking_off_after_the_end_does_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Sends(b"whole")(scope, receive, send)
        scope["extensions"]["weighbridge"].break_off()

    async with door(app) as gateway:
        assert parse(await gateway.ask(CLOSE)).body == b"whole"


@pytest.mark.parametrize("then", ["raise", "return"])
async def test_an_app_that_fails_before_it_has_sent_anything_is_answered_for_in_googles_shape(then: str) -> None:
    async with door(Sends(then=then)) as gateway:
        response = parse(await gateway.ask(GET))
    assert response.status == 500
    assert b'"status":"INTERNAL"' in response.body
    assert response.headers[b"x-weighbridge-request-id"] == b"refused-1"


@pytest.mark.parametrize("pieces", [[b"01234", b"56789"], [b"01234567"]])
async def test_a_body_that_is_not_as_long_as_was_said_is_broken_off(pieces: list[bytes]) -> None:
    async with door(Sends(*pieces, headers=LENGTH_9)) as gateway:
        answer = await gateway.ask(CLOSE)
    with pytest.raises(h11.RemoteProtocolError):
        parse(answer)


async def test_a_large_body_comes_in_pieces_and_whole() -> None:
    sizes: list[int] = []
    body = bytes(range(256)) * (8 * MIB // 256)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        whole, more = b"", True
        while more:
            message = await receive()
            whole += message["body"]
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await Sends(b"same" if whole == body else b"different")(scope, receive, send)

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert (await connection.response()).body == b"same"
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 100_000):
            piece = body[start : start + 100_000]
            connection.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.writer.write(b"0\r\n\r\n")
        assert (await connection.response()).body == b"same"
    assert max(sizes) <= 256 * 1024


async def test_a_client_that_waits_for_a_word_to_send_its_body_gets_it_when_the_app_wants_the_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"ab"
        await Sends(b"thanks")(scope, receive, send)

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"expect: 100-Continue\r\ncontent-length: 2\r\n\r\n")
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.writer.write(b"ab")
        assert (await connection.response()).body == b"thanks"


async def test_a_client_that_is_refused_before_it_sends_its_body_is_not_asked_for_it() -> None:
    async with door(Sends(b"no", status=403)) as gateway:
        answer = await gateway.ask(POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert parse(answer).headers[b"connection"] == b"close"


async def test_after_the_body_the_app_can_wait_for_the_client_to_leave() -> None:
    left = asyncio.Event()
    waiting = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        waiting.set()
        assert await receive() == {"type": "http.disconnect"}
        left.set()

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET)
        await waiting.wait()
        connection.writer.close()
        await left.wait()
