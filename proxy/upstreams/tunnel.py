"""The way to an upstream through a forward proxy: CONNECT (RFC 9110 §9.3.6), whatever is spoken inside."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from proxy.upstreams.connection import Connection
from proxy.upstreams.incoming import Incoming


class TunnelFailed(OSError):
    """The forward proxy opened no way. The text says why, without a name: callers are told."""


class ForwardProxy:
    """An HTTP proxy that the operator named.

    It gets CONNECT for http upstreams as well: it then carries bytes, and has no say in requests and answers.
    """

    def __init__(self, url: str, password: str = "") -> None:
        """`url` is http://host:port or http://user@host:port; it has been checked (proxy/config/upstreams.py)."""
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._authorization = b""
        if parts.username is not None:
            credential = b64encode(f"{unquote(parts.username)}:{password}".encode())
            self._authorization = b"proxy-authorization: Basic %b\r\n" % credential

    def __repr__(self) -> str:
        return f"<ForwardProxy {self.host}:{self.port}>"

    async def connect(self, connection: Connection, host: str, port: int) -> None:
        """Makes a connection to the proxy one to that host. Raises TunnelFailed; then the connection is dropped."""
        at = b"%b:%d" % ((f"[{host}]" if ":" in host else host).encode("idna"), port)
        answer = connection.receiver = _Answer()
        connection.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (at, at, self._authorization))
        try:
            await answer.came
        except BaseException:
            connection.abort()
            raise
        finally:
            connection.receiver = None
            del answer  # an error knows its frames, and they the future that it came from: a cycle


class _Answer:
    """What the proxy says to CONNECT, as a connection's receiver."""

    def __init__(self) -> None:
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._incoming = Incoming(b"CONNECT")

    def received(self, data: memoryview) -> None:
        more, status = self._incoming.feed(data), self._incoming.status
        if self._incoming.broken:
            self._fail(f"answered with what is no HTTP: {self._incoming.broken}")
        elif status == 407:
            self._fail("refused its user name or password, or wants some (407)")
        elif status and not 200 <= status < 300:
            self._fail(f"opened no way there and answered {status}")
        elif more:
            self._fail("said more than that the way is open")
        elif status and not self.came.done():
            self.came.set_result(None)

    def ended(self) -> None:
        self._fail("closed the connection without an answer")

    def lost(self, error: Exception | None) -> None:
        self._fail("closed the connection without an answer")

    def writable(self) -> None:
        """Nothing waits for it: a head is short."""

    def overdue(self) -> None:
        """Nothing is expected: the connect phase has a time of its own."""

    def _fail(self, what: str) -> None:
        if not self.came.done():
            self.came.set_exception(TunnelFailed(f"the forward proxy {what}"))
