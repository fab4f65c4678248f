"""A scripted origin server on a real socket: what an upstream says and when, plain or over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.upstreams.http11 import Http11Transport
from proxy.upstreams.round_trip import RoundTrip
from proxy.upstreams.transport import Request
from tests.certificates import make_certificate, server_context

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BOTH_LOOPS = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})], ids=["uvloop", "asyncio"]
)


class Security(NamedTuple):
    """The two contexts of a TLS connection."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def make_security(folder: Path, name: str = "localhost") -> Security:
    """A certificate for `name` that signs itself, and contexts that show and trust it."""
    certificate = make_certificate(folder, name)
    client = ssl.create_default_context(cafile=certificate.path)
    client.set_alpn_protocols(["http/1.1"])
    return Security(server_context(certificate), client)


class Peer:
    """One connection that the origin has accepted."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """A request's head and body."""
        head = await self.head()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head, await self.reader.readexactly(int(length or 0))

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, data: bytes = OK) -> None:
        """Reads one request and says this."""
        await self.request()
        await self.say(data)

    async def gone(self) -> None:
        """Returns when the other side has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        """In order: with TLS, close_notify goes first."""
        self.writer.close()

    def end(self) -> None:
        """Half-closes the socket under whatever layer stands on it: with TLS, no close_notify goes first."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """At once, as a process that dies."""
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Origin:
    """A listening server whose connections each follow the script; closes a connection whose script has returned."""

    def __init__(self, script: Script, security: Security | None) -> None:
        self.url = ""
        self.accepted = 0
        self._script = script
        self.security = security
        self.tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.accepted += 1
        try:
            await self._script(Peer(self.accepted, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side has left
        except asyncio.CancelledError:
            writer.transport.abort()
        except Exception as error:
            self._errors.append(error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def stop(self) -> None:
        """Ends the scripts that still wait. What a script raised is raised here."""
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        if self._errors:
            raise self._errors[0]

    def transport(self, **options: Any) -> contextlib.AbstractAsyncContextManager[Http11Transport]:
        """A transport to this origin, closed at the end."""
        if self.security is not None:
            options.setdefault("ssl_context", self.security.client)
        return contextlib.aclosing(Http11Transport(self.url, **options))


@contextlib.asynccontextmanager
async def serving(script: Script, security: Security | None = None, seconds: float = 20) -> AsyncIterator[Origin]:
    """A running origin. What takes longer than `seconds` fails, and doesn't hang."""
    origin = Origin(script, security)
    context = security.server if security else None
    server = await asyncio.start_server(origin.connected, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    origin.url = f"https://localhost:{port}" if security else f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(seconds):
            yield origin
    finally:
        server.close()
        await origin.stop()


def post(body: Any = b"{}", length: int | None = None, *headers: tuple[bytes, bytes]) -> Request:
    length = len(body) if length is None else length
    return Request(b"POST", b"/x", [(b"host", b"h"), *headers, (b"content-length", b"%d" % length)], body)


async def read_all(response: RoundTrip) -> bytes:
    """The whole body; the connection is given back."""
    pieces = []
    while not response.complete:
        pieces.append(await response.read())
    response.close()
    return b"".join(pieces)
