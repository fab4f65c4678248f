"""Calls byte by byte for journeys: what a raw client sees, what an upstream is asked, on the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import h11

RESET = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """A response as its reader understands it."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    """Its framing says that nothing is missing."""


def judged(raw: bytes, *, reset: bool = False) -> Answer:
    """What h11 makes of these bytes, with the connection's orderly end, or a reset, behind them."""
    judge = h11.Connection(h11.CLIENT)
    judge.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    judge.send(h11.EndOfMessage())
    judge.receive_data(raw)
    answer, ended = Answer(0, {}, b"", False), reset
    try:
        while True:
            event = judge.next_event()
            if isinstance(event, h11.Response):
                fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                answer = answer._replace(status=event.status_code, headers=fields)
            elif isinstance(event, h11.Data):
                answer = answer._replace(body=answer.body + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return answer._replace(complete=True)
            elif ended:
                return answer
            else:
                judge.receive_data(b"")
                ended = True
    except h11.RemoteProtocolError:
        return answer


class Caller(asyncio.Protocol):
    """A client's connection: keeps what comes, and knows how it ended."""

    def __init__(self) -> None:
        self.came = bytearray()
        self.reset = False
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.came += data
        self.news.set()

    def eof_received(self) -> bool:
        self.ended.set()
        self.news.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset = exc is not None
        self.ended.set()
        self.closed.set()
        self.news.set()

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def holds(self, enough: Callable[[bytes], bool]) -> None:
        """Waits until what came is enough; fails where the connection ends before that."""
        while not enough(bytes(self.came)):
            assert not self.ended.is_set(), bytes(self.came)
            self.news.clear()
            await self.news.wait()

    async def answer(self) -> Answer:
        """What was seen of the response when the connection ended."""
        await self.closed.wait()
        return judged(bytes(self.came), reset=self.reset)

    async def leave(self, how: str) -> None:
        """By `close`, `reset` or `half-close`; that one waits until the other side has closed, too."""
        if how == "half-close":
            self.transport.write_eof()
            await self.closed.wait()
        elif how == "close":
            self.transport.close()
        else:
            reset(self.transport)
        await self.closed.wait()


async def call(base_url: str) -> Caller:
    where = urlsplit(base_url)
    _, caller = await asyncio.get_running_loop().create_connection(Caller, where.hostname, where.port)
    return caller


async def settled(probe: Caller) -> None:
    """Returns when the process has seen all that had come to its sockets: it has answered what came later, twice."""
    for _ in range(2):
        probe.came.clear()
        probe.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await probe.holds(lambda came: judged(came).complete)


def reset(transport: asyncio.BaseTransport) -> None:
    """Ends a connection as a process does that dies with unread data."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    cast("asyncio.Transport", transport).abort()


def request(path: str, key: str, content: bytes, *fields: str, version: str = "HTTP/1.1") -> bytes:
    length = f"Content-Length: {len(content)}"
    lines = [f"POST {path} {version}", "Host: x", f"X-Goog-Api-Key: {key}", length, *fields]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass
class Asked:
    """A request that has reached an upstream in whole, and the connection on which to answer."""

    head: bytes
    content: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def header(self, name: str) -> str:
        _, _, rest = self.head.partition(b"\r\n%b: " % name.encode())
        return rest.partition(b"\r\n")[0].decode()

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def left(self) -> None:
        """Waits until the other side closes."""
        while await self.reader.read(65536):
            pass


Answering = Callable[[Asked], Awaitable[Any]]


@dataclass
class Origin:
    """An upstream on the test's loop. `answering` is given each request, and may close its connection."""

    answering: Answering
    base_url: str = ""
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
                content = await reader.readexactly(int(length or 0))
                asked = Asked(head, content, reader, writer)
                self.asked.append(asked)
                await self.answering(asked)
                if writer.transport.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has left
        finally:
            writer.close()


@asynccontextmanager
async def origin(answering: Answering) -> AsyncIterator[Origin]:
    upstream = Origin(answering)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, backlog=2048)
    upstream.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
