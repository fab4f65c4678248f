"""One request and its response as the app sees them: body pieces, framing, and breaking off that looks broken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import h11
import pytest

from proxy.errors import Refusal
from proxy.gateway.server import GatewayProtocol
from tests.gateway.test_heads import GET, POST
from tests.gateway.wire import door, parse
from tests.upstreams.origin import make_security

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


async def test_who_said_close_and_sends_on_can_read_its_answer() -> None:
    """Closing on bytes that were not read would reset the connection, and the answer with it."""
    async with door(Sends(b"answer")) as gateway:
        connection = await gateway.connect()
        connection.writer.write(CLOSE)
        for _ in range(50):
            connection.writer.write(GET)
            await asyncio.sleep(0.001)
        assert parse(await connection.rest()).body == b"answer"


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
        b"HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\nx-weighbridge-request-id: request-1\r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
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


@pytest.mark.parametrize("raw", [GET, b"GET / HTTP/1.0\r\n\r\n"])
async def test_over_tls_a_response_that_is_broken_off_looks_broken(raw: bytes, tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        scope["extensions"]["weighbridge"].break_off()

    async with door(app, tls=make_security(tmp_path)) as gateway:
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            parse(await gateway.ask(raw))


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
    assert response.headers[b"x-weighbridge-request-id"] == b"request-1"


@pytest.mark.parametrize("then", ["end", "raise"])
async def test_each_request_has_one_id_which_the_app_knows_and_its_response_bears(then: str) -> None:
    ids: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ids.append(scope["extensions"]["weighbridge"].request_id.encode())
        if then == "end":
            await Sends(b"x")(scope, receive, send)
        raise ValueError("a mistake")

    async with door(app) as gateway:
        answers = [parse(await gateway.ask(CLOSE)) for _ in range(2)]
    assert [answer.headers[b"x-weighbridge-request-id"] for answer in answers] == ids == [b"request-1", b"request-2"]


async def test_a_body_that_breaks_is_refused_under_the_id_of_its_request() -> None:
    ids: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ids.append(scope["extensions"]["weighbridge"].request_id)
        await receive()
        await receive()

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n1\r\n")
        while not ids:
            await asyncio.sleep(0)
        connection.writer.write(b"ab\r\n")
        answer = parse(await connection.rest())
    assert [request_id for _, request_id in gateway.refused] == ids
    assert answer.headers[b"x-weighbridge-request-id"] == ids[0].encode()


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
    assert max(sizes) <= 512 * 1024, "what may wait before reading pauses, and one read"


async def test_however_small_its_chunks_are_a_body_comes_in_few_pieces() -> None:
    sizes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await Sends(b"done")(scope, receive, send)

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n")
        assert (await connection.response()).body == b"done"
    assert sum(sizes) == 30_000
    assert len(sizes) < 300


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


async def answer_what_comes(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body's length, or with the refusal that `receive` raises."""
    length, more = 0, True
    try:
        while more:
            message = await receive()
            length += len(message["body"])
            more = message["more_body"]
    except Refusal as refusal:
        await Sends(refusal.message.encode(), status=refusal.reason.http)(scope, receive, send)
    else:
        await Sends(b"%d" % length)(scope, receive, send)


@pytest.mark.parametrize(
    "sent",
    [
        b"content-length: 9\r\n\r\n",
        b"content-length: 9\r\n\r\nabc",
        b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ],
)
async def test_a_body_that_stops_coming_is_answered_408_by_the_app_and_the_connection_closed(sent: bytes) -> None:
    async with door(answer_what_comes, body_s=0.05, linger_s=0.05) as gateway:
        answer = parse(await gateway.ask(POST + sent))
        assert gateway.refused == [], "it is the app's refusal"
    assert (answer.status, answer.headers[b"connection"]) == (408, b"close")
    assert answer.body == b"No byte of the request's body came for 0.05 s. Send the request again."


async def test_an_app_that_asks_for_the_body_after_its_time_is_up_learns_of_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycle = scope["extensions"]["weighbridge"]
        assert (await receive())["body"] == b"abc"
        while cycle.body_failure is None:
            await asyncio.sleep(0.001)
        await answer_what_comes(scope, receive, send)

    async with door(app, body_s=0.05, linger_s=0.05) as gateway:
        assert parse(await gateway.ask(POST + b"content-length: 9\r\n\r\nabc")).status == 408


async def test_chunk_extensions_give_a_body_no_more_time() -> None:
    async with door(answer_what_comes, body_s=0.1, linger_s=0.05) as gateway:
        connection = await gateway.connect()
        answer = asyncio.get_running_loop().create_task(connection.rest())
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1;")
        while not answer.done():
            connection.writer.write(b"x")
            await asyncio.wait([answer], timeout=0.01)
        assert parse(await answer).status == 408


async def test_a_body_that_is_slow_but_comes_is_waited_for() -> None:
    async with door(answer_what_comes, body_s=0.2, body_bytes=1) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"content-length: 30\r\n\r\n")
        for _ in range(30):  # longer than the time for one byte
            await asyncio.sleep(0.01)
            connection.writer.write(b"a")
        assert (await connection.response()).body == b"30"


async def test_a_body_that_drips_is_not_waited_for_though_bytes_come_all_the_time() -> None:
    async with door(answer_what_comes, body_s=0.1, body_bytes=1000, linger_s=0.05) as gateway:
        connection = await gateway.connect()
        answer = asyncio.get_running_loop().create_task(connection.rest())
        connection.writer.write(POST + b"content-length: 1000000\r\n\r\n" + bytes(1500))
        while not (await asyncio.wait([answer], timeout=0.01))[0]:
            connection.writer.write(b"a")
    assert parse(await answer).body.startswith(b"Less than 1000 bytes of the request's body came for 0.1 s.")


@pytest.mark.parametrize("expect", [b"", b"expect: 100-continue\r\n"])
async def test_a_client_is_given_no_blame_for_an_app_that_does_not_read(expect: bytes) -> None:
    """Its time runs only while we read: neither while reading is paused, nor before it is told to send."""
    length = 8 * MIB

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if not expect:
            (server_side,) = gateway.state.connections
            assert isinstance(server_side, GatewayProtocol)
            while not server_side.flow.read_paused:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.15)  # three times as long as a client may be silent
        await answer_what_comes(scope, receive, send)

    async with door(app, body_s=0.05) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + expect + b"content-length: %d\r\n\r\n" % length)
        if expect:
            assert b"100 Continue" in await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.write(bytes(length))
        assert (await connection.response()).body == b"%d" % length


async def test_after_a_whole_body_no_time_runs_out_for_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.15)
        await answer_what_comes(scope, receive, send)

    async with door(app, body_s=0.05) as gateway:
        connection = await gateway.connect()
        for pieces in ([b"ab", b"cd"], [b"abcd"]):
            connection.writer.write(POST + b"content-length: 4\r\n\r\n")
            for piece in pieces:
                await asyncio.sleep(0.01)
                connection.writer.write(piece)
            assert (await connection.response()).body == b"4"


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
