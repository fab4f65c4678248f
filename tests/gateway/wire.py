"""The gateway door over real sockets: a server on a free port, raw bytes in and out, h11 as the judge of framing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import h11
import uvicorn
from uvicorn.server import ServerState

from proxy.errors import Refusal
from proxy.gateway.acceptor import Acceptor, Caps
from proxy.gateway.heads import Bounds
from proxy.gateway.keep_alive import KeepAlive
from proxy.gateway.server import GatewayProtocol, gateway_protocol
from tests.upstreams.origin import Security

App = Callable[[Any, Any, Any], Awaitable[None]]


class Door(NamedTuple):
    port: int
    state: ServerState
    clients: list[Connection]
    refused: list[tuple[Refusal, str]]
    """What the protocol refused by itself."""
    tls: Security | None
    acceptor: Acceptor

    async def connect(self, receive_buffer: int | None = None) -> Connection:
        client = socket.socket()
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        tls: Any = {"ssl": self.tls.client, "server_hostname": "localhost"} if self.tls else {}
        connection = Connection(*await asyncio.open_connection(sock=client, limit=1 << 24, **tls))
        self.clients.append(connection)
        return connection

    async def ask(self, raw: bytes) -> bytes:
        """Sends, without closing the sending half, and reads until the server closes."""
        connection = await self.connect()
        connection.writer.write(raw)
        return await connection.rest()


class Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def rest(self) -> bytes:
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def response(self, method: str = "GET") -> Response:
        """Reads one response and leaves the connection open."""
        judge = _judge(method)
        read = Response(0, {}, b"")
        while True:
            event = judge.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(10):
                    judge.receive_data(await self.reader.read(1 << 16))
            elif isinstance(event, h11.EndOfMessage):
                return read
            else:
                read = _add(read, event)


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


def _judge(method: str) -> h11.Connection:
    judge = h11.Connection(h11.CLIENT)
    judge.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    judge.send(h11.EndOfMessage())
    return judge


def _add(read: Response, event: Any) -> Response:
    if isinstance(event, h11.Response):
        return Response(event.status_code, dict(event.headers), b"")
    if isinstance(event, h11.Data):
        return read._replace(body=read.body + bytes(event.data))
    assert isinstance(event, h11.InformationalResponse), event
    return read


def parse(raw: bytes, method: str = "GET") -> Response:
    """The one response that `raw` is, up to the connection's close. h11.RemoteProtocolError where it is broken."""
    judge = _judge(method)
    judge.receive_data(raw)
    judge.receive_data(b"")
    read = Response(0, {}, b"")
    while not isinstance(event := judge.next_event(), h11.EndOfMessage):
        read = _add(read, event)
    assert judge.trailing_data[0] == b"", "more than one response"
    return read


@asynccontextmanager
async def door(
    app: App,
    *,
    kept: KeepAlive | None = None,
    caps: Caps | None = None,
    send_buffer: int | None = None,
    tls: Security | None = None,
    watch: Callable[[type[GatewayProtocol]], type[GatewayProtocol]] = lambda protocol: protocol,
    **bounds: Any,
) -> AsyncIterator[Door]:
    """Serves `app` behind the gateway's protocol, as `watch` derives it. Requests are named request-1, request-2 …"""
    ids: Iterator[int] = count(1)
    refused: list[tuple[Refusal, str]] = []
    made = gateway_protocol(lambda: f"request-{next(ids)}", lambda *what: refused.append(what), Bounds(**bounds), kept)
    protocol = watch(made)
    config = uvicorn.Config(
        app,
        http=protocol,
        interface="asgi3",
        log_config=None,
        lifespan="off",
        proxy_headers=False,
    )
    config.load()
    state = ServerState()
    listener = socket.socket()
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    listener.setblocking(False)
    make: Any = partial(protocol, config=config, server_state=state, app_state={})
    named: Any = {"new_id": lambda: "request-0", "refused": lambda: None}
    acceptor = Acceptor(listener, make, caps=caps or Caps(), tls=tls and tls.server, **named)
    acceptor.start()
    clients: list[Connection] = []
    try:
        async with asyncio.timeout(20):  # a test that waits in vain fails
            yield Door(listener.getsockname()[1], state, clients, refused, tls, acceptor)
    finally:
        acceptor.close()
        listener.close()
        for client in clients:
            client.writer.transport.abort()
        if state.tasks:
            _, stuck = await asyncio.wait(list(state.tasks), timeout=5)
            for task in stuck:
                task.cancel()
            assert not stuck, "the app was never told that the client has left"
        while state.connections or acceptor.open:
            await asyncio.sleep(0.001)
