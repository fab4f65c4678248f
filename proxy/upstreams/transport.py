"""How an upstream is spoken to: one request up, one response down as it comes. Adapters: http11."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from mmap import mmap
from typing import NamedTuple, Protocol

from proxy.gemini.headers import Headers


class Timeouts(NamedTuple):
    """How long each phase of a call may take, in seconds."""

    pool: float = 10.0
    """Waiting for a connection to come free."""
    connect: float = 10.0
    """Resolving the name, connecting, and the TLS handshake, together."""
    write: float = 60.0
    """Until the upstream has taken the next 128 KB of the request, or what is left of it."""
    first_byte: float = 1200.0
    """From the request's last byte to the response's head. Google takes up to 10 minutes, for streams 20."""
    idle: float = 1200.0
    """Without a byte of the response's body, while somebody waits for it. A model may think for minutes."""


class Request(NamedTuple):
    """What goes up. The caller has put in everything: host, content-length, the credential.

    An iterator is read in a task of its own, which is cancelled where the response comes before the body has gone up;
    closing it is left to whoever made it. Its pieces must make up the content-length, else ValueError.
    """

    method: bytes
    target: bytes
    """Origin form: path and query."""
    headers: Headers
    body: bytes | bytearray | mmap | AsyncIterator[bytes]


class Response(Protocol):
    """A response whose head has come. `read` until `complete`, then `close`; `close` at any time."""

    status: int
    headers: Headers

    @property
    def complete(self) -> bool:
        """The framing says that nothing more will come, and every piece has been read."""
        ...

    async def read(self) -> bytes:
        """The next piece, of any size; b"" once complete. Raises UpstreamFailed where the upstream breaks off."""
        ...

    def close(self) -> None:
        """Gives the connection back where the response is complete and it may be used again; drops it otherwise."""
        ...


class Transport(Protocol):
    """One upstream's connections."""

    @property
    def busy(self) -> int:
        """Those that a call is under way on."""
        ...

    async def send(self, request: Request, goes_up: Callable[[], object] = lambda: None) -> Response:
        """Sends the request and waits for the response's head. 1xx heads are passed over.

        `goes_up` is called when a connection stands, just before the first byte is written to it.

        Where the head comes before the body has gone up, the rest of the body is not sent. Raises UpstreamFailed,
        whose `sent` says how much had gone up; ValueError for a request that can't be put on the wire; and whatever
        the body's iterator raises. Cancelling drops the connection. What is returned must be closed.
        """
        ...

    async def aclose(self) -> None:
        """Drops every connection."""
        ...
