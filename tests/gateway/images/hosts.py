"""A host of pictures and a name service, both of them as bad as a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
from collections.abc import Awaitable, Callable

from PIL import Image

from tests.certificates import Certificate, server_context

NAME = "pictures.example"
Writes = Callable[[asyncio.StreamWriter], Awaitable[None]]
Answer = bytes | Writes


def picture(kind: str = "PNG") -> bytes:
    saved = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(saved, kind)
    return saved.getvalue()


def answer(body: bytes, kind: str = "image/png", more: str = "", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


def redirect(to: str, status: int = 302) -> bytes:
    return (
        f"HTTP/1.1 {status} Go\r\nlocation: {to}\r\nset-cookie: a=b; Path=/; Domain=example\r\n"
        "content-length: 0\r\n\r\n"
    ).encode()


class Names:
    """A name service. A list of lists is answered one after another, as by somebody who rebinds a name."""

    def __init__(self) -> None:
        self.known: dict[str, list[list[str]]] = {NAME: [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers = self.known[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Host:
    """A TLS server: answers by path, and keeps what it was told."""

    def __init__(self, names: dict[str, Certificate]) -> None:
        self.answers: dict[str, Answer] = {"/a.png": answer(picture())}
        self.requests: list[bytes] = []
        self.sni: list[str | None] = []
        self.accepted = 0
        self._contexts = {name: server_context(certificate) for name, certificate in names.items()}
        self._servers: list[asyncio.Server] = []
        self.port = 0

    async def start(self, address: str = "127.0.0.1") -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = self._named
        server = await asyncio.start_server(self._connected, address, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    def _named(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        self.sni.append(name)
        connection.context = self._contexts.get(name or "", self._contexts[NAME])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            found = self.answers[head.split(b" ")[1].decode()]
            if isinstance(found, bytes):
                writer.write(found)
                await writer.drain()
            else:
                await found(writer)
        writer.transport.abort()

    def url(self, path: str = "/a.png", name: str = NAME) -> str:
        return f"https://{name}:{self.port}{path}"

    def close(self) -> None:
        for server in self._servers:
            server.close()


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dripping(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n" + picture()[:20])
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def hints_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


class Endless:
    """A body that never ends. Counts what the host could send before it was left."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.head, self.piece = head, piece
        self.sent = 0
        self.left = asyncio.Event()

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self.head)
            while True:
                writer.write(self.piece)
                await writer.drain()
                self.sent += len(self.piece)
        finally:
            self.left.set()
