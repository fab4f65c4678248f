"""One connection to an upstream: bytes in through a shared buffer, bytes out, one timer, and what became of it."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

READ = 128 * 1024
"""Bytes that are taken from the socket at once: less costs more time, more costs memory where the reader is slow."""
RECEIVE_BUFFER = 2 * READ + 16 * 1024
"""Bytes: a read, and what it is with TLS taken off, together with the rest of a record that had begun before it."""

_POLLRDHUP = getattr(select, "POLLRDHUP", 0)  # Linux only
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))
"""Seconds, and how many. On Linux it is the user timeout that ends a connection, with at least one probe lost, whatever
the count: with its 60 seconds, three in a row."""


class Receiver(Protocol):
    """Whose bytes pass over a connection now."""

    def received(self, data: memoryview) -> None:
        """Bytes came; `data` is valid during this call only."""
        ...

    def ended(self) -> None:
        """The peer closed its side in order."""
        ...

    def lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        ...

    def writable(self) -> None:
        """All that was written has been taken by the kernel."""
        ...

    def overdue(self) -> None:
        """What `expect` set a time for has not happened."""
        ...


class Connection(asyncio.BufferedProtocol):
    """A connection, busy while it has a receiver. Idle, it is dropped as soon as the peer sends anything or closes."""

    __slots__ = (
        "_buffer",
        "_deadline",
        "_loop",
        "_on_lost",
        "_poll",
        "_timer",
        "_transport",
        "_unacknowledged_s",
        "drained",
        "idle_since",
        "made_at",
        "open",
        "receiver",
    )
    _transport: asyncio.Transport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        on_lost: Callable[[Connection], None],
        *,
        unacknowledged_s: float = 60.0,
    ) -> None:
        """`unacknowledged_s`: how long the peer's kernel may leave what was sent without a word, until it is gone."""
        self._loop = loop
        self._buffer = buffer[:READ]
        self._on_lost = on_lost
        self._unacknowledged_s = unacknowledged_s
        self._poll = select.poll()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self.receiver: Receiver | None = None
        self.open = False
        self.idle_since = 0.0
        self.made_at = loop.time()
        self.drained = True
        """The kernel has taken all that was written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.open = True
        self._transport.set_write_buffer_limits(high=0)
        sock = self._transport.get_extra_info("socket")
        # A model may think for minutes; a NAT on the way forgets quiet connections sooner.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        # What a dead network swallows would be sent again for a quarter of an hour, or until the answer is overdue.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = max(1, round(self._unacknowledged_s * 1000))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        self._poll.register(sock.fileno(), select.POLLIN | _POLLRDHUP)

    def become(self, other: Connection) -> None:
        """Hands the socket over to another connection. Neither has had a call, or a timer, yet."""
        self.open = False
        self._transport.set_protocol(other)
        other.connection_made(self._transport)

    async def secured(self) -> None:
        """Waits until it may be written to. Raises OSError."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.receiver is None:
            self.abort()
        else:
            self.receiver.received(self._buffer[:nbytes])

    def eof_received(self) -> None:
        self.open = False
        if self.receiver is not None:
            self.receiver.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.receiver is not None:
            self.receiver.lost(exc)
        self._on_lost(self)

    def pause_writing(self) -> None:
        self.drained = False

    def resume_writing(self) -> None:
        self.drained = True
        if self.receiver is not None:
            self.receiver.writable()

    def quiet(self) -> bool:
        """Nothing has come in, nor an end or an error, that the loop has not told us of yet."""
        return self.open and not self._poll.poll(0)

    def ended(self) -> bool:
        """The peer has closed its side, or broken off, though the loop may not have told us of it yet."""
        return not self.open or any(events & ~select.POLLIN for _, events in self._poll.poll(0))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """What a connection that has failed is given goes nowhere: it isn't `drained` then, until `lost` is told."""
        if self.open:
            self._transport.write(data)
            if self._transport.is_closing():
                self.open = self.drained = False

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.open:
            self._transport.resume_reading()

    def abort(self) -> None:
        self.open = False
        self._transport.abort()

    def expect(self, seconds: float) -> None:
        """Tells the receiver when it is overdue, unless `met` comes first."""
        self._deadline = deadline = self._loop.time() + seconds
        # A timer that fires too early looks again: so one does for many calls, and none is made and cancelled for each.
        if self._timer is None or self._timer.when() > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._look)

    def met(self) -> None:
        """What was expected has happened."""
        self._deadline = None

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None or self.receiver is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look)
        else:
            self._deadline = None
            self.receiver.overdue()
