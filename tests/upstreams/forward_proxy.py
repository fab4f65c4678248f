"""A small forward proxy on a real socket: takes CONNECT, and passes bytes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass
class Forwarding:
    """What it was asked, head by head, and how it answers: `answer` is said in place of opening the way."""

    answer: bytes | None = None
    opened: bytes = OPEN
    hosts: dict[str, str] = field(default_factory=dict)
    """Addresses of names that only this proxy can resolve."""
    url: str = ""
    heads: list[bytes] = field(default_factory=list)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection to its end, whichever side ends it."""
        self.heads.append(head := await reader.readuntil(b"\r\n\r\n"))
        if self.answer is not None:
            writer.write(self.answer)
            if not self.answer:
                await reader.read()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        from_there, there = await asyncio.open_connection(self.hosts.get(host, host), int(port))
        try:
            writer.write(self.opened)
            both = [_pass_on(reader, there), _pass_on(from_there, writer)]
            await asyncio.gather(*both)
        finally:
            there.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def forwarding(**options: object) -> AsyncIterator[Forwarding]:
    """A running forward proxy in the test's own loop. Where `answer` is b"", it says nothing."""
    proxy = Forwarding(**options)  # type: ignore[arg-type]
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await proxy.connected(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
