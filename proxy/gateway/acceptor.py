"""Takes connections at a door, no more than it may have: in all, of one address, and in their TLS handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from proxy.config.addresses import Network, parse_address
from proxy.errors import Reason
from proxy.gateway import heads
from proxy.gateway.heads import Unacceptable
from proxy.gateway.server import RESET_ON_CLOSE, GatewayProtocol
from proxy.gateway.share import Share

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("weighbridge")

AT_A_TIME = 32
"""Connections taken in one turn of the loop: nobody's connecting holds up others' calls."""
REST_S = 0.05
"""How long none is taken where there is no room for a handshake, or no file descriptor. They wait in the kernel."""
HOLD_S = 0.002
"""How long it leaves a connection to another process that has fewer."""
HANDSHAKES = 512
"""TLS handshakes under way at once."""
HANDSHAKE_S = 10.0
"""How long one may take."""
PRESSED_S = 1.0
"""How long one may take while others wait for its room."""
FAREWELLS = 64
"""Connections at once that are told why they aren't served; others beyond the bounds are reset."""
FAREWELL_S = 2.0
"""How long such a one may take to read that."""
TOLD_EVERY_S = 10.0
"""How often the log says that connections were turned away."""


class Caps(NamedTuple):
    """How many connections a door has at once, those in their handshake among them."""

    connections: int = 10_000
    per_address: int = 5_000
    """Of one IPv4 address, or of one IPv6 network of 64 bits, which is what one host has to itself."""
    trusted: Sequence[Network] = ()
    """Whose addresses stand for many clients."""


OPERATORS = Caps(connections=512, per_address=256)
"""Of the control door: people, and what scrapes metrics."""


class Acceptor:
    """Accepts on a listening socket. With uvicorn, it stands where an asyncio.Server would."""

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], GatewayProtocol],
        *,
        caps: Caps,
        tls: ssl.SSLContext | None,
        new_id: Callable[[], str],
        refused: Callable[[], object],
        door: str = "gateway",
    ) -> None:
        """`make` makes a connection's protocol; `refused` counts one that isn't served, `new_id` names what it is told.

        `door` is what the log calls it. `caps` and `tls` may be set anew at any time: they hold for the connections
        that come from then on.
        """
        self.caps = caps
        self.tls = tls
        self.open = 0
        self.share: Share | None = None
        """Where other processes accept on the same socket; to be set before `start`."""
        self._listener = listener
        self._make = make
        self._new_id = new_id
        self._refused = refused
        self._door = door
        self._by_host: dict[str, int] = {}
        self._connecting: dict[asyncio.Task[None], float] = {}
        """When each began, the oldest first."""
        self._parting: set[asyncio.Task[None]] = set()
        self._resting: asyncio.TimerHandle | None = None
        self._closed = False
        self._told_at = 0.0
        self._untold = 0

    def start(self) -> None:
        """Begins to accept."""
        self._loop = asyncio.get_running_loop()
        self._told_at = self._loop.time() - TOLD_EVERY_S
        self._loop.add_reader(self._listener, self._accept)
        if self.share is not None:
            self.share.tell(self.open)

    def close(self) -> None:
        """Accepts no more. Who is in the midst of a handshake is no client yet."""
        if self._closed:
            return
        self._closed = True
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listener)
        if self.share is not None:
            self.share.leave()
        for task in (*self._connecting, *self._parting):
            task.cancel()

    async def wait_closed(self) -> None:
        """For uvicorn, which waits for the connections by itself."""

    def _accept(self) -> None:
        if self.share is None:
            for _ in range(AT_A_TIME):
                if not self._take_next():
                    return
        elif self.share.holds_back():
            self._rest(HOLD_S, self._go_on_with_one)
        else:  # one in a turn: others take theirs
            self._take_next()

    def _take_next(self) -> bool:
        """Whether there may be another one."""
        if self.tls is not None and len(self._connecting) >= HANDSHAKES and not self._cut_off_oldest():
            self._rest(REST_S, self._go_on)
            return False
        try:
            connection, peer = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:  # no descriptor, or no memory, for another one: those that are there go on
            self._tell("connections_wait", why=error.strerror)
            self._rest(REST_S, self._go_on)
            return False
        self._take(connection, str(peer[0]))
        return True

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(seconds, then)

    def _go_on(self) -> None:
        self._resting = None
        self._loop.add_reader(self._listener, self._accept)

    def _go_on_with_one(self) -> None:
        """The one that it held back for: whoever should have taken it may hang."""
        self._go_on()
        self._take_next()

    def _cut_off_oldest(self) -> bool:
        """Whether there is room for a handshake now: one that takes long makes it for others."""
        task, since = next(iter(self._connecting.items()))
        if self._loop.time() - since < PRESSED_S:
            return False
        del self._connecting[task]
        task.cancel()
        return True

    def _take(self, connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)
        host = _host(peer)
        if self.open >= self.caps.connections:
            self._turn_away(connection, peer, "max_connections")
        elif self._by_host.get(host, 0) >= self.caps.per_address and not self._trusts(peer):
            self._turn_away(connection, peer, "max_connections_per_address")
        else:
            self._admit(connection, host)

    def _admit(self, connection: socket.socket, host: str) -> None:
        self._count(1)
        self._by_host[host] = self._by_host.get(host, 0) + 1
        protocol, place = self._make(), _Place(self, host)
        protocol.leave_place = place.leave
        task = self._loop.create_task(self._open(connection, protocol))
        self._connecting[task] = self._loop.time()
        task.add_done_callback(partial(self._connected, connection, protocol, place))

    async def _open(self, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        within_s = None if self.tls is None else HANDSHAKE_S
        await self._loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self.tls, ssl_handshake_timeout=within_s
        )

    def _connected(
        self, connection: socket.socket, protocol: GatewayProtocol, place: _Place, task: asyncio.Task[None]
    ) -> None:
        self._connecting.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            place.leave()
            connection.close()
            protocol.connections.discard(protocol)  # it may have been made, and then nobody tells it of its end
        if error is not None and not isinstance(error, OSError):  # an OSError: the client left, or speaks no TLS
            log.error("connection_failed", why=repr(error))

    def _count(self, more: int) -> None:
        self.open += more
        if self.share is not None and not self._closed:
            self.share.tell(self.open)

    def _leave(self, host: str) -> None:
        self._count(-1)
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]

    def _trusts(self, peer: str) -> bool:
        address = parse_address(peer)
        return address is not None and any(address in network for network in self.caps.trusted)

    def _turn_away(self, connection: socket.socket, peer: str, cap: str) -> None:
        self._refused()
        self._tell("connections_refused", of=peer, over=cap)
        if len(self._parting) >= FAREWELLS:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.close()
            return
        task = self._loop.create_task(self._part(connection))
        self._parting.add(task)
        task.add_done_callback(partial(self._parted, connection))

    async def _part(self, connection: socket.socket) -> None:
        parting = _Parting(_farewell(self._new_id()))
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._open(connection, parting)
                await parting.lost.wait()
        finally:
            parting.abort()

    def _parted(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._parting.discard(task)
        connection.close()
        if not task.cancelled():
            task.exception()  # it left without reading, or took too long: it isn't served anyhow

    def _tell(self, event: str, **why: str | None) -> None:
        self._untold += 1
        if self._loop.time() - self._told_at >= TOLD_EVERY_S:
            log.warning(event, door=self._door, times=self._untold, open=self.open, **why)
            self._told_at, self._untold = self._loop.time(), 0


class _Place:
    """What a connection takes of the caps, given back once, whichever way it ends."""

    __slots__ = ("_acceptor", "_host")

    def __init__(self, acceptor: Acceptor, host: str) -> None:
        self._acceptor: Acceptor | None = acceptor
        self._host = host

    def leave(self) -> None:
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor._leave(self._host)


class _Parting(asyncio.Protocol):
    """Says its one answer, whatever is asked, and reads on: closing on unread bytes would reset the answer away."""

    def __init__(self, farewell: bytes) -> None:
        self._farewell = farewell
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(self._farewell)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _farewell(request_id: str) -> bytes:
    """The whole response for a connection beyond the caps."""
    message = "This server has as many connections as it may have, in all or from your address. Try again later."
    return heads.refusal(Unacceptable(503, message, Reason.TOO_MANY_CONNECTIONS), request_id)


def _host(peer: str) -> str:
    """What shares one allowance."""
    if ":" not in peer:
        return peer
    address = parse_address(peer)
    return str(address) if address is None or address.version == 4 else address.exploded[:19]
