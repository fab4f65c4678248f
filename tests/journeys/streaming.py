"""An upstream whose large answers are made as they are sent, callers that read when told to, and a process's memory."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.stand import Weighbridge
from tests.upstreams.origin import Peer

KB, MB = 1 << 10, 1 << 20
MODEL = "/v1beta/models/gemini-3-pro-image:"
SINGLE, EVENTS, ARRAY = (
    MODEL + verb for verb in ("generateContent", "streamGenerateContent?alt=sse", "streamGenerateContent")
)

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\nServer: scaffolding on HTTPServer2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_BEFORE = b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"'
_AFTER = (
    b'"}}]},"finishReason":"STOP"}],"usageMetadata":'
    b'{"promptTokenCount":9,"totalTokenCount":1129,"candidatesTokenCount":1120}}'
)
_ERROR = b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
_DATA = b"iVBORw0KGgo+/AAE" * 1024
"""16 KB, as Google cuts its chunks."""
_AT_ONCE = 16
"""Chunks that are sent in one write."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Upstream:
    """A script for `tests.upstreams.origin`. A request's body says how to answer:

    `{"picture": n}` with an image of n bytes, `{"error": true}` with a 503, `{"cut": true}` with a part of an answer;
    `{"event": true}` with the first event of a stream and no more, `{"think": true}` not at all. The latter two hold
    until `release` is set. Where the proxy made the body of an OpenAI-shaped request, its prompt says so.
    """

    def __init__(self) -> None:
        self.arrived = 0
        self.release = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        while True:
            head, body = await peer.request()
            asked = json.loads(body)
            if "generationConfig" in asked:
                asked = json.loads(asked["contents"][0]["parts"][0]["text"])
            self.arrived += 1
            if "picture" in asked:
                await _picture(peer, asked["picture"], head.partition(b"\r\n")[0])
                continue
            if "error" in asked:
                await peer.say(b"HTTP/1.1 503 Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(_ERROR), _ERROR))
                continue
            if "cut" in asked:
                await peer.say(_HEAD + _chunk(_BEFORE) + _chunk(_DATA)[:-9])
                return peer.cut()
            if "event" in asked:
                await peer.say(_HEAD + _chunk(b'data: {"candidates":[{"content":{"parts":[{"text":"Hm"}]}}]}\r\n\r\n'))
            await self.release.wait()
            return


async def _picture(peer: Peer, size: int, request_line: bytes) -> None:
    before, after = _BEFORE, _AFTER
    if b"alt=sse" in request_line:
        before, after = b"data: " + before, after + b"\r\n\r\n"
    elif b":stream" in request_line:
        before, after = b"[" + before, after + b"\n]"
    await peer.say(_HEAD + _chunk(before))
    times, rest = divmod(size, len(_DATA) * _AT_ONCE)
    for _ in range(times):
        await peer.say(_chunk(_DATA) * _AT_ONCE)
    await peer.say(_chunk((_DATA * _AT_ONCE)[:rest]) + _chunk(after) + b"0\r\n\r\n")


class Caller:
    """One client connection. It reads only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, stand: Weighbridge, key: str, target: str, body: bytes, then: str = "close") -> None:
        """Sends a call, this connection's last if `then` isn't keep-alive."""
        head = (
            f"POST {target} HTTP/1.1\r\nhost: {urlsplit(stand.base_url).netloc}\r\nx-goog-api-key: {key}\r\n"
            f"content-type: application/json\r\nconnection: {then}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def head(self) -> bytes:
        """The response's status line and fields."""
        return await self._reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """One whole small answer in chunks, after which another may follow."""
        return await self._reader.readuntil(b"\r\n0\r\n\r\n")

    async def rest(self) -> int:
        """Reads to the end, all bytes counted; 0 where a chunked body isn't complete."""
        size, last = 0, b""
        while piece := await self._reader.read(MB):
            size += len(piece)
            last = (last + piece)[-5:]
        return size if last == b"0\r\n\r\n" else 0

    async def measured(self) -> int:
        """Reads an answer whose head tells its length: bytes of the body, as far as it came."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        left = length
        while left and (piece := await self._reader.read(min(left, MB))):
            left -= len(piece)
        return length - left

    def leave(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def caller(stand: Weighbridge, window: int = 256 * KB) -> AsyncIterator[Caller]:
    """A connection to the gateway door whose side takes some `window` bytes before it is told to read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.setblocking(False)
    where = urlsplit(stand.base_url)
    await asyncio.get_running_loop().sock_connect(sock, (where.hostname, where.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=window)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()


class Footprint:
    """What a Weighbridge's process has taken since this was made, in bytes."""

    def __init__(self, stand: Weighbridge) -> None:
        assert stand.process is not None
        self.proc = Path(f"/proc/{stand.process.pid}")
        (self.proc / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._resident("VmRSS")

    @property
    def peak(self) -> int:
        """The most memory that was added, for however short a time."""
        return self._resident("VmHWM") - self._before

    @property
    def kept(self) -> int:
        """What is still added."""
        return self._resident("VmRSS") - self._before

    @property
    def files(self) -> int:
        """Open file descriptors, in all."""
        return sum(1 for _ in (self.proc / "fd").iterdir())

    def spooled(self) -> int:
        """Open files that bodies lie in."""
        count = 0
        for fd in (self.proc / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                count += "spool" in str(fd.readlink())
        return count

    @property
    def threads(self) -> int:
        return sum(1 for _ in (self.proc / "task").iterdir())

    def received(self) -> int:
        """Bytes that it has read from anywhere, in MB: so long as that stands still, nothing comes in."""
        return int((self.proc / "io").read_text().split()[1]) // MB

    def _resident(self, name: str) -> int:
        status = (self.proc / "status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0]) * KB
