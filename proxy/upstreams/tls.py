"""TLS to an upstream: a connection whose bytes pass through OpenSSL on their way, which keeps none of them back."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from proxy.upstreams.connection import READ, Connection

RECORD = 16 * 1024
"""Bytes of plaintext in a TLS record, at most (RFC 8446 §5.1)."""
SLICE = 32 * 1024
"""Bytes that OpenSSL is given at once: what its buffer once held, it keeps room for as long as the connection lasts."""


def tls_context(cafile: str | None = None, client: tuple[str, str] | None = None) -> ssl.SSLContext:
    """A client's context: certificates and names verified, HTTP/1.1 asked for. Costs 10 ms and more: share it.

    `cafile` has the authorities that are trusted, in place of the system's; `client` are the files of the certificate
    to show and its key. All are PEM. Raises OSError, of which ssl.SSLError is one.
    """
    context = ssl.create_default_context(cafile=cafile)
    if client is not None:
        context.load_cert_chain(*client, password="")  # none: else OpenSSL would ask on the terminal
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that no write ever has to wait for the peer
    return context


class TlsConnection(Connection):
    """A connection for use once `secured` has returned.

    Between two events OpenSSL holds at most a part of one record. So all that is said of a plain connection holds
    here: what pauses reading pauses it at the socket, and what is `drained` the kernel has. The peer ends in order by
    its close_notify; a mere FIN could be anybody's on the way.
    """

    __slots__ = ("_ended", "_error", "_from_peer", "_handshake", "_plaintext", "_secure", "_tls", "_to_peer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        on_lost: Callable[[Connection], None],
        context: ssl.SSLContext,
        hostname: str,
        *,
        unacknowledged_s: float = 60.0,
    ) -> None:
        super().__init__(loop, buffer, on_lost, unacknowledged_s=unacknowledged_s)
        self._plaintext = buffer[READ:]
        self._from_peer, self._to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_peer, self._to_peer, server_hostname=hostname)
        self._handshake: asyncio.Future[None] | None = loop.create_future()
        self._secure = False
        self._ended = False
        self._error: ssl.SSLError | None = None

    async def secured(self) -> None:
        """Waits for the handshake. Raises ssl.SSLError; OSError where the connection is lost in it."""
        assert self._handshake is not None
        try:
            await self._handshake
        except BaseException:
            self.abort()
            raise
        finally:
            self._handshake = None  # an error knows its frames, and they this: a cycle, with OpenSSL's memory in it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._shake_hands()
        self._answer()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._error = error
        else:
            self._secure = True
            if self._handshake is not None and not self._handshake.done():
                self._handshake.set_result(None)

    def buffer_updated(self, nbytes: int) -> None:
        filled = 0  # bytes of plaintext
        for start in range(0, nbytes, SLICE):
            self._from_peer.write(self._buffer[start : min(start + SLICE, nbytes)])
            if not self._secure:
                self._shake_hands()
            if self._secure:
                filled = self._decrypt(filled)
        if filled and self.receiver is not None:
            self.receiver.received(self._plaintext[:filled])
        elif filled:
            self.abort()
        self._answer()

    def _decrypt(self, filled: int) -> int:
        """Appends all whole records to the plaintext that is there; returns how much there is then."""
        try:
            while nbytes := self._tls.read(RECORD, self._plaintext[filled:]):
                filled += nbytes  # type: ignore[operator]  # typeshed takes the count for bytes
            self._ended = True
        except ssl.SSLWantReadError:
            self._tls.write(b"")  # OpenSSL made 16 KB of room to answer a session ticket, and lets it go with a write
        except ssl.SSLError as error:
            self._error = error
        return filled

    def _answer(self) -> None:
        """Sends what the protocol itself has to say (handshake, key update, alert), and ends where it has ended."""
        if self._to_peer.pending:
            self._transport.write(self._to_peer.read())
        if self._error is not None:
            self.abort()
        elif self._ended and self.open:
            self.open = False
            if self.receiver is not None:
                self.receiver.ended()
            self._transport.close()

    def eof_received(self) -> None:
        self.open = False

    def connection_lost(self, exc: Exception | None) -> None:
        error, self._error = self._error or exc, None
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(error or ConnectionResetError())
            self._handshake.exception()  # it is told to nobody where the call has been cancelled meanwhile
        super().connection_lost(error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view, at, records = memoryview(data), 0, []
        while self.open and at < len(view):
            at += self._tls.write(view[at : at + RECORD])
            records.append(self._to_peer.read())
        super().write(b"".join(records))
