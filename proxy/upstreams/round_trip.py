"""One request and its response over one connection: sending, waiting by phases, reading with back-pressure."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import Enum
from mmap import mmap

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.gemini.headers import Headers
from proxy.upstreams.connection import Connection
from proxy.upstreams.heads import RequestHead
from proxy.upstreams.incoming import Incoming
from proxy.upstreams.transport import Timeouts

HIGH_WATER = 192 * 1024
"""Bytes of a body that nobody has read at which reading from the connection stops, until somebody waits for more. Two
reads of a picture pass for each stop, which costs more system calls than a read."""
SLICE = 128 * 1024
"""Bytes of a request's body that are handed over at once."""


class _Phase(Enum):
    """What is waited for; the value says what the upstream then hasn't done."""

    WRITE = "took no more of the request for {:g} s (write)"
    FIRST_BYTE = "did not begin to answer within {:g} s (first byte)"
    IDLE = "sent nothing for {:g} s in the middle of its response (idle)"


class RoundTrip:
    """What `Transport.send` returns; see `transport.Response`. `close` calls `release`, once."""

    __slots__ = (
        "_buffered",
        "_closed",
        "_connection",
        "_failure",
        "_handed_over",
        "_incoming",
        "_loop",
        "_paused",
        "_phase",
        "_pieces",
        "_pump",
        "_release",
        "_seconds",
        "_timeouts",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        method: bytes,
        timeouts: Timeouts,
        release: Callable[[Connection, bool], None],
    ) -> None:
        self.status = 0
        self.headers: Headers = []
        self._loop = loop
        self._connection = connection
        self._timeouts = timeouts
        self._release = release
        self._incoming = Incoming(method)
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._handed_over = False
        self._pump: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: UpstreamFailed | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "failed" if self._failure else "complete" if self.status and self.complete else "open"
        return f"<RoundTrip {self.status or 'unanswered'} {state}>"

    async def send(self, head: RequestHead, body: bytes | bytearray | mmap | AsyncIterator[bytes]) -> None:
        """Sends the request and waits for the response's head; raises as `Transport.send`."""
        incoming = self._incoming
        self._connection.receiver = self
        if not isinstance(body, (bytes, bytearray, mmap)):
            await self._send_stream(head, body)
        elif len(body) <= SLICE:
            self._connection.write(head.wire + body if body else head.wire)
            self._handed_over = True
        else:
            self._connection.write(head.wire)
            self._handed_over = await self._hand_over(body)
        await self._drain()
        while not incoming.status:
            if self._failure:
                raise self._failure
            await self._wait(_Phase.FIRST_BYTE, self._timeouts.first_byte)
        self.status, self.headers = incoming.status, incoming.headers

    @property
    def complete(self) -> bool:
        return self._incoming.complete and not self._pieces

    async def read(self) -> bytes:
        while not self._pieces:
            if self._incoming.complete:
                return b""
            if self._failure:
                raise self._failure
            if self._closed:
                raise RuntimeError("The response was closed before it was complete; nothing more can be read.")
            if self._paused:
                self._paused = False
                self._connection.resume_reading()
            await self._wait(_Phase.IDLE, self._timeouts.idle)
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        return piece

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._failure = None  # it knows the frames that it was raised through, and they this: a cycle, response and all
        connection = self._connection
        connection.receiver = None
        reusable = self._incoming.reusable and self._handed_over and connection.drained and connection.open
        if reusable and self._paused:
            connection.resume_reading()
        self._wake()
        self._release(connection, reusable)

    async def _send_stream(self, head: RequestHead, body: AsyncIterator[bytes]) -> None:
        # A task of its own, so that an early response needn't wait for a piece that doesn't come.
        pump = self._pump = self._loop.create_task(self._send_pieces(head, body))
        try:
            await asyncio.wait((pump,))
        finally:
            self._pump = None
            if not pump.done():
                pump.cancel()
                await asyncio.wait((pump,))
            error = None if pump.cancelled() else pump.exception()
        if error is not None and not self._settled():
            raise error

    async def _send_pieces(self, head: RequestHead, body: AsyncIterator[bytes]) -> None:
        left = head.content_length
        self._connection.write(head.wire)
        self._handed_over = not left
        async for piece in body:
            left -= len(piece)
            if left < 0:
                break
            if not await self._hand_over(piece):
                return
            self._handed_over = not left  # now, not when the iterator ends: the upstream may be at work already
        if left:
            raise ValueError(f"The body is not as long as its content-length, {head.content_length} bytes.")

    async def _hand_over(self, data: bytes | bytearray | mmap) -> bool:
        """Writes slice by slice, as the kernel takes them; False where that has no purpose any more."""
        view = memoryview(data)
        for start in range(0, len(view), SLICE):
            await self._drain()
            await self._listen()
            if self._settled():
                return False
            self._connection.write(view[start : start + SLICE])
        return True

    def _settled(self) -> bool:
        """The response has begun, or there will be none: sending has no purpose any more."""
        return self._incoming.status != 0 or self._failure is not None

    async def _drain(self) -> None:
        while not (self._connection.drained and self._connection.open) and not self._settled():
            await self._wait(_Phase.WRITE, self._timeouts.write)

    async def _listen(self) -> None:
        """Hears what has come before more is written: the answer may be there already, and the end behind it.

        Written to a connection that the upstream has reset, the rest would be lost without a word under TLS, and the
        answer with it.
        """
        turns = 3  # in the first two the loop looks and reads; what is there after that is no end
        while turns and not self._connection.quiet() and not self._settled():
            turns -= 1
            await asyncio.sleep(0)
        await self._drain()

    async def _wait(self, phase: _Phase, seconds: float) -> None:
        """Until something has happened; the caller looks what."""
        self._phase, self._seconds = phase, seconds
        self._waiter = self._loop.create_future()
        self._connection.expect(seconds)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._connection.met()

    def _wake(self) -> None:
        if self._pump is not None and self._settled():
            self._pump.cancel()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection tells: connection.Receiver

    def received(self, data: memoryview) -> None:
        incoming = self._incoming
        piece = incoming.feed(data)
        if piece:
            self._pieces.append(piece)
            self._buffered += len(piece)
            if self._buffered >= HIGH_WATER and not self._paused and not incoming.complete:
                self._paused = True
                self._connection.pause_reading()
        if incoming.broken:
            self._fail(Reason.UPSTREAM_UNREACHABLE, f"The upstream's response is no valid one: {incoming.broken}.")
        elif incoming.status:
            self._wake()

    def ended(self) -> None:
        self._incoming.end()
        if self._incoming.complete:
            self._wake()
        else:
            self._broke_off(None)

    def lost(self, error: Exception | None) -> None:
        if not self._incoming.complete:
            self._broke_off(error)

    def writable(self) -> None:
        self._wake()

    def overdue(self) -> None:
        self._fail(Reason.UPSTREAM_TIMEOUT, f"The upstream {self._phase.value.format(self._seconds)}.")

    def _broke_off(self, error: Exception | None) -> None:
        where = "in the middle of its response" if self._incoming.status else "without an answer"
        what = self._incoming.broken or (error and _name(error)) or "no orderly end"
        if isinstance(error, TimeoutError):  # the kernel's, after TCP_USER_TIMEOUT
            message = f"The connection to the upstream was lost {where}: its network acknowledges nothing any more."
        else:
            message = f"The upstream closed the connection {where}: {what}."
        self._fail(Reason.UPSTREAM_UNREACHABLE, message, error)

    def _fail(self, reason: Reason, message: str, cause: Exception | None = None) -> None:
        if self._failure is None:
            whole = self._handed_over and self._connection.drained
            self._failure = UpstreamFailed(reason, message, Sent.WHOLE if whole else Sent.PART)
            self._failure.__cause__ = cause
        self._connection.abort()
        self._wake()


def _name(error: Exception) -> str:
    """What kind of error it is; of TLS, which alert the upstream sent: some come after the handshake only."""
    return (isinstance(error, ssl.SSLError) and error.reason) or type(error).__name__
