"""HTTP/1.1 to one upstream: a bounded pool of connections, the last used first, behind `transport.Transport`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from proxy.errors import Reason, Sent, UpstreamFailed
from proxy.upstreams.connection import RECEIVE_BUFFER, Connection
from proxy.upstreams.dialing import Dialer, Resolve
from proxy.upstreams.heads import build_request_head
from proxy.upstreams.round_trip import RoundTrip
from proxy.upstreams.tls import TlsConnection, tls_context
from proxy.upstreams.transport import Request, Timeouts
from proxy.upstreams.tunnel import ForwardProxy, TunnelFailed

MAX_AGE_S = 300.0
"""How old a connection gets before it is used for no further call: so calls follow a name whose addresses change."""
_GRACE_S = 1.0
"""What the kernel waits longer than the write phase: where both would end a call, it is that phase that says so."""


class Http11Transport:
    """The connections to the origin of one base URL; the URL's path is the caller's business.

    Made inside the running loop that it serves. At most `max_connections` are busy at once, further calls wait in
    turn; at most `max_idle` are kept, each for `idle_seconds`: Google closes them later than that, and none for a call
    that begins after `max_age`. Nothing is sent twice: a kept connection that has ended is seen before it is written
    to, and replaced.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeouts: Timeouts | None = None,
        max_connections: int = 1000,
        max_idle: int = 200,
        idle_seconds: float = 30.0,
        max_age: float = MAX_AGE_S,
        ssl_context: ssl.SSLContext | None = None,
        forward_proxy: ForwardProxy | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        tls, self.host, self.port = _origin(base_url)
        self._forward_proxy = forward_proxy
        to = forward_proxy or self
        self._dialer = Dialer(to.host, to.port, resolve=resolve)
        self._ssl = (ssl_context or tls_context()) if tls else None
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts or Timeouts()
        self._max_idle = max_idle
        self._idle_seconds = idle_seconds
        self._max_age = max_age
        self._buffer = memoryview(bytearray(RECEIVE_BUFFER))  # of all connections: it holds nothing between callbacks
        self._slots = asyncio.Semaphore(max_connections)
        self._waiting = 0
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._all_lost: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        return len(self._connections) - len(self._idle)

    def __repr__(self) -> str:
        counts = f"{self.busy} busy, {len(self._idle)} idle, {self._waiting} waiting"
        return f"<Http11Transport {self.host}:{self.port} [{counts}]>"

    async def send(self, request: Request, goes_up: Callable[[], object] = lambda: None) -> RoundTrip:
        """See `transport.Transport.send`."""
        head = build_request_head(request)
        if self._slots.locked():
            await self._wait_for_slot()
        else:
            await self._slots.acquire()
        try:
            connection = self._take_idle() or await self._connect()
        except BaseException:
            self._slots.release()
            raise
        trip = RoundTrip(self._loop, connection, request.method, self._timeouts, self._release)
        try:
            goes_up()
            await trip.send(head, request.body)
        except BaseException:
            trip.close()
            raise
        return trip

    async def aclose(self) -> None:
        """Drops every connection, and with them the calls in flight. Returns when all are gone."""
        self._closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            self._all_lost = self._loop.create_future()
            await self._all_lost

    async def _wait_for_slot(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeouts.pool):
                await self._slots.acquire()
        except TimeoutError:
            message = (
                f"All connections to the upstream were busy for {self._timeouts.pool:g} s (pool). Try again later."
            )
            raise UpstreamFailed(Reason.UPSTREAM_TIMEOUT, message, Sent.NOTHING) from None
        finally:
            self._waiting -= 1

    def _take_idle(self) -> Connection | None:
        oldest = self._loop.time() - self._idle_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since > oldest and connection.quiet():
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        if self._closed:
            raise _unreachable("this transport has been closed")
        address = ""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                connection, address = await self._dialer.dial(self._make_first)
                if self._forward_proxy is not None:
                    connection = await self._through(self._forward_proxy, connection)
                await connection.secured()
        except OSError as error:  # TimeoutError and ssl.SSLError are such
            what = _what(error, self._timeouts.connect)
            if address:
                self._dialer.avoid(address)
            elif self._forward_proxy is not None:
                what = f"on the way to the forward proxy, {what}"
            raise _unreachable(what) from error
        if connection.open:
            self._connections.add(connection)
        if self._closed or connection.ended():
            connection.abort()
            raise _unreachable("the connection was closed as soon as it stood")
        return connection

    def _make_first(self) -> Connection:
        """What speaks first on a new socket: to a forward proxy that is never TLS."""
        return self._make_connection(None if self._forward_proxy else self._ssl)

    def _make_connection(self, context: ssl.SSLContext | None) -> Connection:
        patience = self._timeouts.write + _GRACE_S
        if context is None:
            return Connection(self._loop, self._buffer, self._forget, unacknowledged_s=patience)
        return TlsConnection(self._loop, self._buffer, self._forget, context, self.host, unacknowledged_s=patience)

    async def _through(self, forward_proxy: ForwardProxy, connection: Connection) -> Connection:
        """What was a connection to the forward proxy is one to the origin then."""
        await forward_proxy.connect(connection, self.host, self.port)
        if self._ssl is None:
            return connection
        inside = self._make_connection(self._ssl)
        connection.become(inside)
        return inside

    def _release(self, connection: Connection, reusable: bool) -> None:
        now = self._loop.time()
        young = connection.made_at + self._max_age > now
        if reusable and young and not self._closed and len(self._idle) < self._max_idle:
            connection.idle_since = now
            self._idle.append(connection)
            if self._sweep_timer is None:
                self._sweep_timer = self._loop.call_later(self._idle_seconds, self._sweep)
        else:
            connection.abort()
        self._slots.release()

    def _sweep(self) -> None:
        """Drops what has been idle too long: the oldest stand first."""
        now = self._loop.time()
        while self._idle and self._idle[0].idle_since + self._idle_seconds <= now:
            self._idle.popleft().abort()
        self._sweep_timer = None
        if self._idle:
            self._sweep_timer = self._loop.call_at(self._idle[0].idle_since + self._idle_seconds, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._all_lost is not None and not self._connections and not self._all_lost.done():
            self._all_lost.set_result(None)


def _origin(base_url: str) -> tuple[bool, str, int]:
    """TLS or not, host and port. Raises ValueError, whose message doesn't repeat the URL: it may hold a secret."""
    url = urlsplit(base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("A base URL begins with http:// or https:// and a host name.")
    if url.username is not None or url.password is not None:
        raise ValueError("A base URL holds no user name and no password.")
    url.hostname.encode("idna")  # UnicodeError, a ValueError, where it can't be resolved
    tls = url.scheme == "https"
    return tls, url.hostname, url.port or (443 if tls else 80)


def _unreachable(what: str) -> UpstreamFailed:
    message = (
        f"The upstream could not be reached: {what} (connect). Try again later; if it lasts, the proxy's operator has "
        "to look at base_url, certificates and network."
    )
    return UpstreamFailed(Reason.UPSTREAM_UNREACHABLE, message, Sent.NOTHING)


def _what(error: OSError, limit: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {limit:g} s"
    if isinstance(error, TunnelFailed):
        return str(error)
    if isinstance(error, socket.gaierror):
        return "its name was not resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was refused, {error.verify_message.partition(',')[0]}"  # after it, for which name
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed, {error.reason}"
    if isinstance(error, ConnectionError) and not error.errno:  # a close that the kernel has no number for
        return "it closed the connection in the TLS handshake"
    return os.strerror(error.errno).lower() if error.errno else "none of its addresses took the connection"
