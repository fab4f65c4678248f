"""Connections: pipelining, upgrades, clients that leave or stall, final responses, TLS; uvicorn's server around it."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import h11
import httpx2
import pytest
import uvicorn

from proxy.gateway.server import GatewayProtocol, gateway_protocol
from tests.gateway.test_heads import GET, POST, Echo, refused
from tests.gateway.wire import Connection, door, parse
from tests.upstreams.origin import make_security

pytestmark = pytest.mark.anyio

MIB = 1 << 20


async def respond(send: Any, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


class Held:
    """Answers with the path, each request only once it is let go."""

    def __init__(self) -> None:
        self.started: list[bytes] = []
        self.arrival = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started.append(scope["raw_path"])
        self.arrival.set()
        await self.go.wait()
        await respond(send, scope["raw_path"])


class Watched:
    """Begins a response and waits for the client to be gone; `pieces` are sent first."""

    def __init__(self, *pieces: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.pieces = pieces
        self.headers = headers or []
        self.begun = asyncio.Event()
        self.left = asyncio.Event()
        self.calls = 0
        self.cycle: Any = None

    def note(self) -> None:
        self.calls += 1
        self.left.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.cycle = scope["extensions"]["weighbridge"]
        self.cycle.when_gone = self.note
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        self.begun.set()
        await self.left.wait()
        assert self.cycle.gone
        await send({"type": "http.response.body", "body": b"to nobody", "more_body": True})
        await send({"type": "http.response.body", "body": b"to nobody"})
        assert (await receive())["type"] == "http.disconnect"


async def test_pipelined_requests_are_answered_one_after_the_other_in_their_order() -> None:
    app = Held()
    async with door(app) as gateway:
        connection = await gateway.connect()
        asked = [b"GET /r%d HTTP/1.1\r\nhost: x\r\n" % n for n in range(4)]
        connection.writer.write(b"\r\n".join(asked) + b"connection: close\r\n\r\n")
        await app.arrival.wait()
        assert app.started == [b"/r0"]
        app.go.set()
        rest = await connection.rest()
    assert app.started == [b"/r0", b"/r1", b"/r2", b"/r3"]
    assert [rest.index(body) for body in app.started] == sorted(rest.index(body) for body in app.started)


async def test_a_refusal_waits_for_the_answers_to_the_requests_before_it() -> None:
    app = Held()
    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(b"GET /0 HTTP/1.1\r\nhost: x\r\n\r\nGET /1 HTTP/1.1\r\nhost: x\r\n\r\nBAD \x00" + GET)
        await app.arrival.wait()
        app.go.set()
        rest = await connection.rest()
    assert app.started == [b"/0", b"/1"]
    assert rest.count(b"HTTP/1.1 200 OK") == 2
    refused(rest[rest.index(b"HTTP/1.1 400") :], 400)


async def test_a_pipelined_request_whose_body_breaks_never_reaches_the_app() -> None:
    app = Held()
    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET + POST + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\nzz" + GET)
        await app.arrival.wait()
        app.go.set()
        rest = await connection.rest()
    assert app.started == [b"/one"]
    refused(rest[rest.index(b"HTTP/1.1 400") :], 400)


async def test_more_requests_in_a_row_than_may_wait_are_refused_after_those_that_may() -> None:
    app = Held()
    async with door(app, pipelined=4) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET * 50)
        await app.arrival.wait()
        app.go.set()
        rest = await connection.rest()
    assert rest.count(b"HTTP/1.1 200 OK") == 5
    assert "Wait for a response" in refused(rest[rest.index(b"HTTP/1.1 400") :], 400)


@pytest.mark.parametrize("each", [32 * MIB, 100_000])
async def test_what_is_sent_ahead_of_a_response_is_left_with_the_client(each: int) -> None:
    app = Held()
    async with door(app, send_buffer=16 * 1024) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET)
        await app.arrival.wait()
        (server_side,) = gateway.state.connections
        connection.writer.write((POST + b"content-length: %d\r\n\r\n" % each + bytes(each)) * (32 * MIB // each))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.writer.drain(), 0.3)
        assert isinstance(server_side, GatewayProtocol)
        assert sum(cycle.waiting_bytes for cycle in server_side.pipelined) < MIB
        app.go.set()


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
async def test_an_upgrade_is_never_made_and_neither_body_nor_next_request_is_taken_for_another(upgrade: bytes) -> None:
    app = Echo()
    asks = b"connection: upgrade\r\nupgrade: " + upgrade + b"\r\n"
    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET[:-2] + asks + b"\r\n" + GET)
        connection.writer.write(POST + asks + b"content-length: %d\r\n\r\n" % len(GET) + GET + GET)
        connection.writer.write(POST + asks + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        connection.writer.write(b"1\r\nc\r\n0\r\n\r\n" + POST + b"content-length: 0\r\nconnection: close\r\n\r\n")
        await connection.rest()
    bodies = [body for _, _, _, body in app.seen]
    assert bodies == [b"", b"", GET, b"", b"abc", b""]


async def test_a_broken_body_behind_an_upgrade_is_refused() -> None:
    app = Echo()
    async with door(app) as gateway:
        asks = b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n"
        refused(await gateway.ask(POST + asks + b"nonsense\r\n" + GET), 400)
    assert app.seen == []


async def test_what_follows_a_request_that_said_close_is_nobodys_request() -> None:
    app = Echo()
    async with door(app) as gateway:
        raw = await gateway.ask(GET[:-2] + b"connection: close\r\n\r\n" + GET + b"\x00")
        assert parse(raw).body == b"ok"
        raw = await gateway.ask(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n" + GET)
        assert parse(raw).body == b"ok"
    assert len(app.seen) == 2


async def test_a_body_that_breaks_while_its_response_is_on_the_way_breaks_that_off() -> None:
    app = Watched(b"some")
    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
        await app.begun.wait()
        connection.writer.write(b"zz\r\n")
        with pytest.raises(h11.RemoteProtocolError):
            parse(await connection.rest())
        await app.left.wait()


async def test_a_body_that_breaks_while_the_app_waits_for_it_makes_the_client_gone() -> None:
    seen: list[Any] = []
    waiting = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cycle = scope["extensions"]["weighbridge"]
        cycle.when_gone = lambda: seen.append("gone")
        waiting.set()
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"])
        seen.append(cycle.gone)
        await respond(send, b"never sent")

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await waiting.wait()
        connection.writer.write(b"zz\r\n")
        refused(await connection.rest(), 400)
    assert seen == [b"ab", "gone", True]


@pytest.mark.parametrize("how", ["half-close", "close", "reset", "close over TLS", "reset over TLS"])
async def test_a_client_that_leaves_is_gone_at_once_and_what_is_sent_to_it_vanishes(how: str, tmp_path: Path) -> None:
    app = Watched(b"first")
    async with door(app, tls=make_security(tmp_path) if "TLS" in how else None) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET)
        await app.begun.wait()
        if how == "half-close":
            connection.writer.write_eof()
            with pytest.raises(h11.RemoteProtocolError):
                parse(await connection.rest())
        elif how.startswith("close"):
            connection.writer.close()
        else:
            connection.writer.transport.abort()
        await app.left.wait()
    assert app.calls == 1


async def test_an_http_1_0_client_that_half_closes_sees_a_reset() -> None:
    app = Watched(b"first")
    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await app.begun.wait()
        connection.writer.write_eof()
        with pytest.raises(ConnectionResetError):
            await connection.rest()


async def test_a_client_that_leaves_while_its_last_pipelined_request_is_answered_is_gone() -> None:
    app = Watched(b"first")

    async def first_then_watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await respond(send, b"one")
        else:
            await app(scope, receive, send)

    async with door(first_then_watched) as gateway:
        connection = await gateway.connect()
        connection.writer.write(GET + POST + b"content-length: 0\r\n\r\n")
        await app.begun.wait()
        connection.writer.close()
        await app.left.wait()


async def test_a_client_that_leaves_in_the_midst_of_its_body_is_gone() -> None:
    messages: list[Any] = []
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.extend([await receive(), await receive()])
        ended.set()

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"content-length: 5\r\n\r\nabc")
        while not gateway.state.tasks:
            await asyncio.sleep(0)
        connection.writer.close()
        await ended.wait()
    assert messages == [
        {"type": "http.request", "body": b"abc", "more_body": True},
        {"type": "http.disconnect"},
    ]


async def flood(app: Watched, connection: Connection) -> None:
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection.writer.write(GET)


async def test_a_client_that_leaves_its_response_unread_is_gone_after_a_while() -> None:
    app = Watched(*[bytes(MIB)] * 32)
    async with door(app, stall_s=0.1, send_buffer=16 * 1024) as gateway:
        connection = await gateway.connect(receive_buffer=16 * 1024)
        await flood(app, connection)
        async with asyncio.timeout(5):
            await app.left.wait()
        assert app.calls == 1


async def test_a_client_that_reads_slowly_is_served_to_the_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(MIB), 200, (b"content-length", b"%d" % MIB))

    async with door(app, stall_s=0.1, send_buffer=16 * 1024) as gateway:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(GET)
        client.setblocking(False)
        read = 0
        while read < MIB:  # eight times as long as the server waits for a client that reads nothing
            await asyncio.sleep(0.01)
            read += len(await asyncio.get_running_loop().sock_recv(client, 16 * 1024))
        client.close()


@pytest.mark.parametrize("size", [32 * MIB, 120_000, 100_000, 80_000])
async def test_a_response_that_is_over_for_the_app_does_not_wait_for_ever_for_its_reader(size: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, bytes(size), 200, (b"connection", b"close"))

    async with door(app, stall_s=0.1, send_buffer=16 * 1024) as gateway:
        connection = await gateway.connect(receive_buffer=16 * 1024)
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        connection.writer.write(GET)
        while not gateway.state.connections:
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while gateway.state.connections:
                await asyncio.sleep(0.01)


async def test_who_is_answered_early_can_read_the_answer_though_it_still_sends() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"too large", 413, (b"content-length", b"9"))

    async with door(app) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"content-length: %d\r\n\r\n" % (32 * MIB))
        connection.writer.write(bytes(32 * MIB))
        await connection.writer.drain()
        response = parse(await connection.rest())
    assert (response.status, response.body, response.headers[b"connection"]) == (413, b"too large", b"close")


async def test_a_client_that_sends_on_for_ever_after_its_answer_is_cut_off() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"no", 413, (b"content-length", b"2"))

    async with door(app, linger_s=0.05) as gateway:
        connection = await gateway.connect()
        connection.writer.write(POST + b"content-length: 100000000000\r\n\r\n")
        async with asyncio.timeout(5):
            while gateway.state.connections:
                connection.writer.write(bytes(4096))
                await asyncio.sleep(0.001)
        assert parse(await connection.reader.read()).status == 413


async def test_over_tls_all_is_as_it_is_without(tmp_path: Path) -> None:
    schemes: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await Echo()(scope, receive, send)

    async with door(app, tls=make_security(tmp_path), linger_s=0.05) as gateway:
        connection = await gateway.connect()
        for size in (0, 5, MIB):
            connection.writer.write(POST + b"content-length: %d\r\n\r\n" % size + bytes(size))
            assert (await connection.response()).body == b"ok"
        refused(await gateway.ask(b"BAD \x00"), 400)
    assert schemes == ["https"] * 3


async def test_uvicorns_server_runs_it_and_stops_only_when_a_call_in_flight_is_answered() -> None:
    app = Held()
    config = uvicorn.Config(
        app,
        port=0,
        http=gateway_protocol(lambda: "id", lambda *_: None),
        log_config=None,
        lifespan="off",
        ws="websockets-sansio",
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server._serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            call = group.create_task(client.get("/slow", headers={"upgrade": "websocket", "connection": "upgrade"}))
            await app.arrival.wait()
            server.should_exit = True
            app.go.set()
            assert (await call).content == b"/slow"
        await serving


async def test_an_error_body_is_what_sdks_read() -> None:
    async with door(Echo()) as gateway:
        response = parse(await gateway.ask(b"nonsense\r\n\r\n"))
    assert response.headers[b"content-type"] == b"application/json; charset=UTF-8"
    assert list(json.loads(response.body)) == ["error"]
